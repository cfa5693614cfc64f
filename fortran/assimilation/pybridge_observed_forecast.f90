! SPDX-License-Identifier: MIT
!> A window seen through its observations: from the state at its start and the parameters to the
!> model's equivalents of all observations, with tangent linear and adjoint.
!>
!> The nonlinear run records one linearisation a step. How these are kept (all of them here) is
!> this module's own affair: a scheme that recomputes from checkpoints fits behind the same verbs.
module pybridge_observed_forecast
  use pybridge_forecast_model, only: forecast_model
  use pybridge_finite, only: is_bounded
  use pybridge_kinds, only: rk
  use pybridge_observations, only: observation_set
  use pybridge_status, only: status_blow_up, status_ok
  implicit none
  private
  public :: forecast_workspace, observed_forecast

  !> Configuration only. The model must outlive it.
  type :: observed_forecast
    class(forecast_model), pointer :: model => null()
    !> Steps in the window
    integer :: n_steps = 0
    type(observation_set) :: observations
  contains
    procedure :: forward
    procedure :: forward_tl
    procedure :: forward_ad
  end type observed_forecast

  !> What a run leaves for its TL and AD, and scratch space. Owned by the caller, one a thread.
  type :: forecast_workspace
    !> State and carried values; after `forward`, those at the window's end
    real(rk), allocatable :: x(:)
    !> Perturbation or adjoint of the same
    real(rk), allocatable :: dx(:)
    !> Records of `start` (column 0) and of each step
    real(rk), allocatable :: record(:, :)
    !> Records of the observation operators
    real(rk), allocatable :: observation_record(:)
    real(rk), allocatable :: model_work(:)
    real(rk), allocatable :: observation_work(:)
    !> Nonlinear, tangent linear and adjoint runs so far
    integer :: n_forward = 0, n_tangent_linear = 0, n_adjoint = 0
  contains
    procedure :: prepare
  end type forecast_workspace

contains

  !> Allocate for a window, unless that is done already.
  subroutine prepare(self, forecast)
    class(forecast_workspace), intent(inout) :: self
    !> The window it will serve
    type(observed_forecast), intent(in) :: forecast

    call resize(self%x, forecast%model%n)
    call resize(self%dx, forecast%model%n)
    call resize(self%model_work, forecast%model%n_work)
    call resize(self%observation_record, forecast%observations%n_linearisation)
    call resize(self%observation_work, forecast%observations%n_work)
    if (allocated(self%record)) then
      if (any(shape(self%record) /= [forecast%model%n_linearisation, forecast%n_steps + 1])) &
        & deallocate (self%record)
    end if
    if (.not. allocated(self%record)) &
      & allocate (self%record(forecast%model%n_linearisation, 0:forecast%n_steps), &
      & source=0.0_rk)
  end subroutine prepare

  !> Give a buffer its size.
  subroutine resize(buffer, n)
    real(rk), allocatable, intent(inout) :: buffer(:)
    integer, intent(in) :: n

    if (allocated(buffer)) then
      if (size(buffer) == n) return
      deallocate (buffer)
    end if
    allocate (buffer(n), source=0.0_rk)
  end subroutine resize

  !> The nonlinear run: `y <- H(M(x, p))`.
  subroutine forward(self, k, p, x, y, workspace, status, failed_step, trajectory)
    class(observed_forecast), intent(in) :: self
    !> Number of the window's first step: steps since time zero
    integer, intent(in) :: k
    !> Parameters
    real(rk), intent(in) :: p(self%model%n_parameters)
    !> State at the window's start
    real(rk), intent(in) :: x(self%model%n_state)
    !> Equivalents of the observations
    real(rk), intent(out) :: y(self%observations%n_observations)
    !> Prepared workspace; keeps what TL and AD need
    type(forecast_workspace), intent(inout) :: workspace
    !> `status_blow_up`, or what model or observation operator reported
    integer, intent(out) :: status
    !> Number of steps into the window at which it failed; 0 when at its start
    integer, intent(out) :: failed_step
    !> States at the window's start and after each step; absent means not wanted
    real(rk), intent(out), optional :: trajectory(self%model%n_state, 0:self%n_steps)

    integer :: g, i, n_state, s

    workspace%n_forward = workspace%n_forward + 1
    n_state = self%model%n_state
    do i = 1, n_state
      workspace%x(i) = x(i)
    end do
    workspace%x(n_state + 1:) = 0.0_rk
    g = 1
    do s = 0, self%n_steps
      failed_step = s
      if (s == 0) then
        call self%model%start(k, p, workspace%x, workspace%record(:, 0), workspace%model_work, &
          & status)
      else
        call self%model%step(k + s - 1, p, workspace%x, workspace%record(:, s), &
          & workspace%model_work, status)
      end if
      if (status /= status_ok) return
      if (.not. is_bounded(self%model%n, workspace%x, self%model%blow_up_limit)) then
        status = status_blow_up
        return
      end if
      if (present(trajectory)) trajectory(:, s) = workspace%x(1:n_state)
      do while (g <= self%observations%n_groups)
        associate (group => self%observations%groups(self%observations%order(g)))
          if (group%step > s) exit
          call group%operator%forward(workspace%x, y(group%offset + 1:), &
            & workspace%observation_record(group%record_offset + 1:), &
            & workspace%observation_work, status)
        end associate
        if (status /= status_ok) return
        g = g + 1
      end do
    end do
    failed_step = 0
  end subroutine forward

  !> Tangent linear about the last run: `dy <- H' (M'_x dx + M'_p dp)`.
  subroutine forward_tl(self, k, p, dx, dy, workspace, status, dp)
    class(observed_forecast), intent(in) :: self
    !> Number of the window's first step
    integer, intent(in) :: k
    !> Parameters
    real(rk), intent(in) :: p(self%model%n_parameters)
    !> Perturbation of the state at the window's start
    real(rk), intent(in) :: dx(self%model%n_state)
    !> Perturbation of the observations' equivalents
    real(rk), intent(out) :: dy(self%observations%n_observations)
    !> Workspace of the run
    type(forecast_workspace), intent(inout) :: workspace
    !> Zero, or what model or observation operator reported
    integer, intent(out) :: status
    !> Perturbation of the parameters; absent means zero
    real(rk), intent(in), optional :: dp(self%model%n_parameters)

    integer :: g, i, s

    workspace%n_tangent_linear = workspace%n_tangent_linear + 1
    do i = 1, self%model%n_state
      workspace%dx(i) = dx(i)
    end do
    workspace%dx(self%model%n_state + 1:) = 0.0_rk
    g = 1
    ! Nothing is observed after the last step with observations: no need to go there.
    do s = 0, self%observations%last_step
      if (s == 0) then
        call self%model%start_tl(k, p, workspace%record(:, 0), workspace%dx, &
          & workspace%model_work, status, dp)
      else
        call self%model%step_tl(k + s - 1, p, workspace%record(:, s), workspace%dx, &
          & workspace%model_work, status, dp)
      end if
      if (status /= status_ok) return
      do while (g <= self%observations%n_groups)
        associate (group => self%observations%groups(self%observations%order(g)))
          if (group%step > s) exit
          call group%operator%forward_tl( &
            & workspace%observation_record(group%record_offset + 1:), workspace%dx, &
            & dy(group%offset + 1:), workspace%observation_work, status)
        end associate
        if (status /= status_ok) return
        g = g + 1
      end do
    end do
  end subroutine forward_tl

  !> Adjoint about the last run, accumulating: `x_ad <- x_ad + M'_x^T H'^T y_ad`, the same for p.
  subroutine forward_ad(self, k, p, y_ad, x_ad, workspace, status, p_ad)
    class(observed_forecast), intent(in) :: self
    !> Number of the window's first step
    integer, intent(in) :: k
    !> Parameters
    real(rk), intent(in) :: p(self%model%n_parameters)
    !> Adjoint of the observations' equivalents
    real(rk), intent(in) :: y_ad(self%observations%n_observations)
    !> Adjoint of the state at the window's start, accumulated
    real(rk), intent(inout) :: x_ad(self%model%n_state)
    !> Workspace of the run
    type(forecast_workspace), intent(inout) :: workspace
    !> Zero, or what model or observation operator reported
    integer, intent(out) :: status
    !> Adjoint of the parameters, accumulated; absent means not wanted
    real(rk), intent(inout), optional :: p_ad(self%model%n_parameters)

    integer :: g, i, s

    workspace%n_adjoint = workspace%n_adjoint + 1
    workspace%dx = 0.0_rk
    g = self%observations%n_groups
    do s = self%observations%last_step, 0, -1
      do while (g >= 1)
        associate (group => self%observations%groups(self%observations%order(g)))
          if (group%step < s) exit
          call group%operator%forward_ad( &
            & workspace%observation_record(group%record_offset + 1:), y_ad(group%offset + 1:), &
            & workspace%dx, workspace%observation_work, status)
        end associate
        if (status /= status_ok) return
        g = g - 1
      end do
      if (s == 0) then
        call self%model%start_ad(k, p, workspace%record(:, 0), workspace%dx, &
          & workspace%model_work, status, p_ad)
      else
        call self%model%step_ad(k + s - 1, p, workspace%record(:, s), workspace%dx, &
          & workspace%model_work, status, p_ad)
      end if
      if (status /= status_ok) return
    end do
    do i = 1, self%model%n_state
      x_ad(i) = x_ad(i) + workspace%dx(i)
    end do
  end subroutine forward_ad

end module pybridge_observed_forecast
