! SPDX-License-Identifier: MIT
!> 4D-Var with a model of one's own, and no Python:
!>
!>     gfortran -O2 shallow_water.f90 fourdvar.f90 $(pybridge-config --fflags --libs) -o fourdvar
!>
!> Only the water's height is observed, at every second point. The analysis finds the currents.
program main
  use pybridge, only: describe_status, failure, forecast, fourdvar, fourdvar_options, &
    & fourdvar_workspace, full_covariance, new_fourdvar, new_full_covariance, &
    & new_observation_set, observation_set, rk, runge_kutta_model, status_ok, &
    & workspace_forecast, workspace_size
  use shallow_water, only: new_shallow_water_model
  implicit none
  integer, parameter :: m = 32, n = 2*m, n_steps = 60, every = 10
  integer, parameter :: n_times = n_steps/every, n_points = m/2
  type(runge_kutta_model), target :: model
  type(full_covariance) :: covariance
  type(observation_set) :: observations
  type(fourdvar) :: problem
  type(fourdvar_workspace) :: workspace
  type(fourdvar_options) :: options
  type(failure) :: failed
  character(len=:), allocatable :: message
  real(rk), allocatable :: work(:), v(:)
  real(rk) :: truth(n), background(n), analysis(n), final(n), p(2), p_analysis(2), b(n, n)
  real(rk) :: run(n, n_times + 1, 1), x(n), y(n_points*n_times), angle
  integer :: points(n_points), i, j, distance, status, failed_step

  model = new_shallow_water_model(m, spacing=0.5_rk, dt=0.05_rk, gravity=1.0_rk, &
    & friction=0.02_rk)
  p = model%parameters

  ! The truth: a wave on a current. The background: the sea at rest
  do i = 1, m
    angle = 2.0_rk*acos(-1.0_rk)*i/m
    truth(i) = 0.2_rk + 0.2_rk*sin(2.0_rk*angle)
    truth(m + i) = 1.0_rk + 0.1_rk*cos(angle)
  end do
  background(1:m) = 0.0_rk
  background(m + 1:) = 1.0_rk

  ! Observations of a true run
  allocate (work(workspace_size(model, workspace_forecast, n_steps, 1, 1)))
  x = truth
  call forecast(model, 0, n_steps, 1, 1, p, x, work, status, failed, every, run)
  call require(status)
  points = [(m + 2*i, i=1, n_points)]
  observations = new_observation_set(n)
  do i = 1, n_times
    call observations%add_selection(i*every, points, spread(0.01_rk, 1, n_points), status)
    call require(status)
    y((i - 1)*n_points + 1:i*n_points) = run(points, i + 1, 1)
  end do

  ! Errors of the background: 0.2 for the currents, 0.1 for the height, correlated over four points
  b = 0.0_rk
  do j = 1, m
    do i = 1, m
      distance = min(modulo(i - j, m), modulo(j - i, m))
      b(i, j) = 0.2_rk**2*exp(-(distance/4.0_rk)**2)
      b(m + i, m + j) = 0.1_rk**2*exp(-(distance/4.0_rk)**2)
    end do
    b(j, j) = b(j, j)*1.001_rk
    b(m + j, m + j) = b(m + j, m + j)*1.001_rk
  end do
  call new_full_covariance(covariance, b, status)
  call require(status)

  options%n_outer = 4
  call new_fourdvar(problem, model, n_steps, covariance, observations, options, status, message)
  call require(status)
  allocate (v(problem%control%n_control), source=0.0_rk)
  call problem%analyse(0, background, p, y, v, analysis, p_analysis, final, workspace, status, &
    & failed_step)
  call require(status)

  associate (history => workspace%history)
    print "(2(a, f0.2))", "cost ", history%jb(0) + history%jo(0), " -> ", &
      & history%jb(history%n_outer) + history%jo(history%n_outer)
  end associate
  print "(2(a, f6.4))", "error of the currents: ", rms(background(1:m) - truth(1:m)), &
    & " -> ", rms(analysis(1:m) - truth(1:m))
  print "(2(a, f6.4))", "error of the heights:  ", rms(background(m + 1:) - truth(m + 1:)), &
    & " -> ", rms(analysis(m + 1:) - truth(m + 1:))

contains

  pure function rms(error)
    real(rk), intent(in) :: error(:)
    real(rk) :: rms

    rms = sqrt(sum(error**2)/size(error))
  end function rms

  subroutine require(code)
    integer, intent(in) :: code

    character(len=:), allocatable :: text

    if (code == status_ok) return
    call describe_status(code, text)
    print "(a)", text
    if (allocated(message)) print "(a)", message
    error stop 1
  end subroutine require

end program main
