! SPDX-License-Identifier: MIT
!> Operators that the tests need and the library does not have.
module operators_for_tests
  use pybridge_forecast_model, only: forecast_model
  use pybridge_kinds, only: rk
  use pybridge_minimiser, only: linear_operator
  use pybridge_observation_operator, only: observation_operator
  use pybridge_status, only: status_ok
  implicit none
  private
  public :: carrying_model, matrix_operator, square_operator

  !> A nonlinear operator: the square of each value of the state, then their sum
  type, extends(observation_operator) :: square_operator
  contains
    procedure :: forward => square_forward
    procedure :: forward_tl => square_forward_tl
    procedure :: forward_ad => square_forward_ad
  end type square_operator

  !> A model of two variables that carries a third: set at the start from state and parameter, it
  !> drives them through the window
  type, extends(forecast_model) :: carrying_model
  contains
    procedure :: start => carrying_start
    procedure :: start_tl => carrying_start_tl
    procedure :: start_ad => carrying_start_ad
    procedure :: step => carrying_step
    procedure :: step_tl => carrying_step_tl
    procedure :: step_ad => carrying_step_ad
  end type carrying_model

  !> A matrix as an operator
  type, extends(linear_operator) :: matrix_operator
    real(rk), allocatable :: a(:, :)
  contains
    procedure :: apply => matrix_apply
  end type matrix_operator

contains

  subroutine square_forward(self, x, y, linearisation, work, status)
    class(square_operator), intent(in) :: self
    real(rk), intent(in) :: x(self%n_state)
    real(rk), intent(out) :: y(self%n_observations)
    real(rk), intent(inout) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status

    associate (unused_work => work)
    end associate
    linearisation = x
    y(1:self%n_state) = x**2
    y(self%n_state + 1) = sum(x)
    status = status_ok
  end subroutine square_forward

  subroutine square_forward_tl(self, linearisation, dx, dy, work, status)
    class(square_operator), intent(in) :: self
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(in) :: dx(self%n_state)
    real(rk), intent(out) :: dy(self%n_observations)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status

    associate (unused_work => work)
    end associate
    dy(1:self%n_state) = 2.0_rk*linearisation*dx
    dy(self%n_state + 1) = sum(dx)
    status = status_ok
  end subroutine square_forward_tl

  subroutine square_forward_ad(self, linearisation, y_ad, x_ad, work, status)
    class(square_operator), intent(in) :: self
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(in) :: y_ad(self%n_observations)
    real(rk), intent(inout) :: x_ad(self%n_state)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status

    associate (unused_work => work)
    end associate
    x_ad = x_ad + 2.0_rk*linearisation*y_ad(1:self%n_state) + y_ad(self%n_state + 1)
    status = status_ok
  end subroutine square_forward_ad

  subroutine carrying_start(self, k, p, x, linearisation, work, status)
    class(carrying_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(inout) :: x(self%n)
    real(rk), intent(inout) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status

    associate (unused_k => k, unused_work => work)
    end associate
    linearisation(1) = x(1)
    x(3) = p(1)*x(1)**2
    status = status_ok
  end subroutine carrying_start

  subroutine carrying_start_tl(self, k, p, linearisation, dx, work, status, dp)
    class(carrying_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: dx(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(in), optional :: dp(self%n_parameters)

    associate (unused_k => k, unused_work => work)
    end associate
    dx(3) = 2.0_rk*p(1)*linearisation(1)*dx(1)
    if (present(dp)) dx(3) = dx(3) + linearisation(1)**2*dp(1)
    status = status_ok
  end subroutine carrying_start_tl

  subroutine carrying_start_ad(self, k, p, linearisation, x_ad, work, status, p_ad)
    class(carrying_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: x_ad(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    associate (unused_k => k, unused_work => work)
    end associate
    x_ad(1) = x_ad(1) + 2.0_rk*p(1)*linearisation(1)*x_ad(3)
    if (present(p_ad)) p_ad(1) = p_ad(1) + linearisation(1)**2*x_ad(3)
    x_ad(3) = 0.0_rk
    status = status_ok
  end subroutine carrying_start_ad

  subroutine carrying_step(self, k, p, x, linearisation, work, status)
    class(carrying_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(inout) :: x(self%n)
    real(rk), intent(inout) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status

    associate (unused_k => k, unused_p => p, unused_work => work)
    end associate
    linearisation(1) = x(1)
    x(1) = x(1) + 0.1_rk*x(2)
    x(2) = x(2) - 0.1_rk*sin(linearisation(1)) + 0.1_rk*x(3)
    status = status_ok
  end subroutine carrying_step

  subroutine carrying_step_tl(self, k, p, linearisation, dx, work, status, dp)
    class(carrying_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: dx(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(in), optional :: dp(self%n_parameters)

    associate (unused_k => k, unused_p => p, unused_work => work)
    end associate
    if (present(dp)) continue
    dx(1:2) = [dx(1) + 0.1_rk*dx(2), &
      & dx(2) - 0.1_rk*cos(linearisation(1))*dx(1) + 0.1_rk*dx(3)]
    status = status_ok
  end subroutine carrying_step_tl

  subroutine carrying_step_ad(self, k, p, linearisation, x_ad, work, status, p_ad)
    class(carrying_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: x_ad(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    associate (unused_k => k, unused_p => p, unused_work => work)
    end associate
    if (present(p_ad)) continue
    x_ad = [x_ad(1) - 0.1_rk*cos(linearisation(1))*x_ad(2), x_ad(2) + 0.1_rk*x_ad(1), &
      & x_ad(3) + 0.1_rk*x_ad(2)]
    status = status_ok
  end subroutine carrying_step_ad

  subroutine matrix_apply(self, x, a_x, status)
    class(matrix_operator), intent(inout) :: self
    real(rk), intent(in) :: x(self%n)
    real(rk), intent(out) :: a_x(self%n)
    integer, intent(out) :: status

    a_x = matmul(self%a, x)
    status = status_ok
  end subroutine matrix_apply

end module operators_for_tests

!> Tests of the assimilation in Fortran: adjoints, gradients, minimisers, and 4D-Var as a whole.
!> Fails by `error stop`.
program test_assimilation
  use, intrinsic :: ieee_arithmetic, only: ieee_quiet_nan, ieee_value
  use operators_for_tests, only: carrying_model, matrix_operator, square_operator
  use pybridge_background, only: background_covariance, diagonal_covariance, full_covariance, &
    & new_diagonal_covariance, new_full_covariance
  use pybridge_control_vector, only: control_vector
  use pybridge_fourdvar, only: fourdvar, fourdvar_options, fourdvar_workspace, new_fourdvar
  use pybridge_kinds, only: rk
  use pybridge_linear_algebra, only: cholesky
  use pybridge_lorenz96, only: new_lorenz96_tendency
  use pybridge_minimiser, only: conjugate_gradients, minimiser_workspace
  use pybridge_observation_error, only: diagonal_error, new_diagonal_error
  use pybridge_observations, only: new_observation_set, observation_set
  use pybridge_observed_forecast, only: forecast_workspace, observed_forecast
  use pybridge_runge_kutta, only: new_runge_kutta_model, runge_kutta_model
  use pybridge_status, only: status_blow_up, status_invalid_argument, &
    & status_not_positive_definite, status_observation, status_ok, status_wrong_shape
  implicit none

  integer, parameter :: n = 40, n_steps = 8
  integer :: n_failures

  n_failures = 0
  call seed_random()
  call covariances_pass_the_dot_product_test()
  call covariances_reject_what_is_not_one()
  call conjugate_gradients_agree_with_a_direct_solution()
  call observed_forecast_passes_taylor_and_dot_product_tests()
  call carried_values_are_set_from_the_state_that_is_controlled()
  call observations_outside_are_rejected()
  call gradient_is_that_of_the_cost()
  call hessian_is_symmetric()
  call analysis_never_increases_the_cost_and_leaves_no_gradient()
  call nonlinear_operators_are_assimilated()
  call forcing_is_recovered_with_the_state()
  call a_step_that_overshoots_is_shortened()
  call a_step_that_blows_up_is_shortened()
  call blow_up_is_reported_with_its_step()
  call a_second_window_needs_no_new_workspace()
  if (n_failures > 0) then
    print "(i0, a)", n_failures, " checks failed"
    error stop 1
  end if
  print "(a)", "assimilation: all checks passed"

contains

  subroutine check(passed, what, value)
    logical, intent(in) :: passed
    character(len=*), intent(in) :: what
    real(rk), intent(in), optional :: value

    if (passed) return
    n_failures = n_failures + 1
    if (present(value)) then
      print "(3a, es12.4)", "FAILED: ", what, ": ", value
    else
      print "(2a)", "FAILED: ", what
    end if
  end subroutine check

  subroutine seed_random()
    integer :: i, size_of_seed

    call random_seed(size=size_of_seed)
    call random_seed(put=[(7919*i + 17, i=1, size_of_seed)])
  end subroutine seed_random

  !> Roughly Gaussian numbers (Irwin-Hall).
  function random_vector(m) result(x)
    integer, intent(in) :: m
    real(rk) :: x(m)
    real(rk) :: u(12, m)

    call random_number(u)
    x = sum(u, 1) - 6.0_rk
  end function random_vector

  function random_covariance(m) result(b)
    integer, intent(in) :: m
    real(rk) :: b(m, m)
    real(rk) :: a(m, m)
    integer :: i

    a = reshape(random_vector(m*m), [m, m])
    b = matmul(a, transpose(a))/m
    do i = 1, m
      b(i, i) = b(i, i) + 0.1_rk
    end do
  end function random_covariance

  function lorenz96(size) result(model)
    integer, intent(in) :: size
    type(runge_kutta_model) :: model

    model = new_runge_kutta_model(new_lorenz96_tendency(size, 8.0_rk), 0.05_rk)
  end function lorenz96

  !> A state on the attractor.
  subroutine spin_up(model, x)
    type(runge_kutta_model), intent(in) :: model
    real(rk), intent(out) :: x(:)
    real(rk) :: record(model%n_linearisation), work(model%n_work)
    integer :: k, status

    x = 8.0_rk
    x(1) = 8.01_rk
    do k = 0, 999
      call model%step(k, model%parameters, x, record, work, status)
    end do
  end subroutine spin_up

  subroutine add_all_steps(observations, sigma)
    type(observation_set), intent(inout) :: observations
    real(rk), intent(in) :: sigma
    integer :: i, s, status
    real(rk) :: sigmas(n)

    sigmas = sigma
    do s = 1, n_steps
      call observations%add_selection(s, [(i, i=1, n)], sigmas, status)
      call check(status == status_ok, "a valid selection is accepted")
    end do
  end subroutine add_all_steps

  subroutine covariances_pass_the_dot_product_test()
    type(diagonal_covariance) :: diagonal
    type(full_covariance) :: full
    integer :: m, status
    real(rk), allocatable :: b(:, :)

    do m = 1, 11
      b = random_covariance(m)
      call new_full_covariance(full, b, status)
      call check(status == status_ok, "a positive definite matrix is accepted")
      call check_covariance(full, b)
      call new_diagonal_covariance(diagonal, abs(b(:, 1)) + 0.1_rk, status)
      call check(status == status_ok, "positive standard deviations are accepted")
      b = 0.0_rk
      b = diagonal_matrix(diagonal%sigma**2)
      call check_covariance(diagonal, b)
    end do
  end subroutine covariances_pass_the_dot_product_test

  function diagonal_matrix(d) result(a)
    real(rk), intent(in) :: d(:)
    real(rk) :: a(size(d), size(d))
    integer :: i

    a = 0.0_rk
    do i = 1, size(d)
      a(i, i) = d(i)
    end do
  end function diagonal_matrix

  subroutine check_covariance(covariance, b)
    class(background_covariance), intent(in) :: covariance
    real(rk), intent(in) :: b(:, :)
    real(rk), dimension(size(b, 1)) :: v, dx, dx_ad, v_ad, b_x
    real(rk) :: work(covariance%n_work), left, right
    integer :: m

    m = size(b, 1)
    v = random_vector(m)
    dx_ad = random_vector(m)
    call covariance%forward_tl(v, dx, work)
    v_ad = 0.0_rk
    call covariance%forward_ad(dx_ad, v_ad, work)
    left = dot_product(dx, dx_ad)
    right = dot_product(v, v_ad)
    call check(abs(left - right) <= 1.0e-13_rk*norm2(dx)*norm2(dx_ad), "U and U^T", left - right)
    call covariance%apply(dx_ad, b_x, v, work)
    call check(maxval(abs(b_x - matmul(b, dx_ad))) <= 1.0e-13_rk*m*maxval(abs(b)) &
      & *maxval(abs(dx_ad)), "U U^T is B")
  end subroutine check_covariance

  subroutine covariances_reject_what_is_not_one()
    type(diagonal_covariance) :: diagonal
    type(full_covariance) :: full
    integer :: status
    real(rk) :: b(2, 2)

    b = reshape([1.0_rk, 2.0_rk, 2.0_rk, 1.0_rk], [2, 2])
    call new_full_covariance(full, b, status)
    call check(status == status_not_positive_definite, "an indefinite matrix is rejected")
    b = 1.0_rk
    call new_full_covariance(full, b, status)
    call check(status == status_not_positive_definite, "a singular matrix is rejected")
    b = reshape([1.0_rk, 0.5_rk, 0.4_rk, 1.0_rk], [2, 2])
    call new_full_covariance(full, b, status)
    call check(status == status_invalid_argument, "an asymmetric matrix is rejected")
    call new_diagonal_covariance(diagonal, [1.0_rk, 0.0_rk], status)
    call check(status == status_not_positive_definite, "a zero standard deviation is rejected")
  end subroutine covariances_reject_what_is_not_one

  subroutine conjugate_gradients_agree_with_a_direct_solution()
    integer, parameter :: m = 12
    type(matrix_operator) :: operator, inverse_diagonal
    type(conjugate_gradients) :: minimiser
    type(minimiser_workspace) :: workspace
    real(rk) :: b(m), x(m), direct(m), root(m, m), q
    integer :: status

    operator%n = m
    operator%a = random_covariance(m)
    inverse_diagonal%n = m
    inverse_diagonal%a = diagonal_matrix([(1.0_rk/operator%a(status, status), status=1, m)])
    b = random_vector(m)
    call cholesky(m, operator%a, root, status)
    call solve_lower(root, b, direct)
    minimiser%max_iterations = 2*m
    minimiser%tolerance = 1.0e-12_rk
    minimiser%reorthogonalise = .true.

    call workspace%prepare(m, 2*m, .true., .false.)
    call minimiser%minimise(operator, b, x, workspace, status)
    call check(status == status_ok .and. workspace%converged, "CG converges")
    call check(maxval(abs(x - direct)) <= 1.0e-10_rk*maxval(abs(direct)), "CG is the solution")
    call check(workspace%n_iterations <= m + 1, "orthogonal residuals end within m iterations")
    q = 0.5_rk*dot_product(x, matmul(operator%a, x)) - dot_product(b, x)
    call check(abs(workspace%decrease(workspace%n_iterations) - q) <= 1.0e-11_rk*abs(q), &
      & "CG returns the quadratic function")
    q = norm2(b)
    call check(abs(workspace%gradient_norm(0) - q) <= 1.0e-13_rk*q, "and its gradient norm")

    call workspace%prepare(m, 2*m, .true., .true.)
    call minimiser%minimise(operator, b, x, workspace, status, inverse_diagonal)
    call check(status == status_ok .and. workspace%converged, "preconditioned CG converges")
    call check(maxval(abs(x - direct)) <= 1.0e-10_rk*maxval(abs(direct)), &
      & "preconditioned CG is the solution")

    operator%a = -operator%a
    call minimiser%minimise(operator, b, x, workspace, status)
    call check(status /= status_ok, "CG refuses a negative matrix")
  end subroutine conjugate_gradients_agree_with_a_direct_solution

  subroutine solve_lower(root, b, x)
    real(rk), intent(in) :: root(:, :), b(:)
    real(rk), intent(out) :: x(:)
    integer :: i, m

    m = size(b)
    do i = 1, m
      x(i) = (b(i) - dot_product(root(i, 1:i - 1), x(1:i - 1)))/root(i, i)
    end do
    do i = m, 1, -1
      x(i) = (x(i) - dot_product(root(i + 1:m, i), x(i + 1:m)))/root(i, i)
    end do
  end subroutine solve_lower

  subroutine observed_forecast_passes_taylor_and_dot_product_tests()
    type(runge_kutta_model), target :: model
    type(observed_forecast) :: forecast
    type(forecast_workspace) :: workspace, other
    type(square_operator) :: squares
    type(diagonal_error) :: error
    real(rk) :: x(n), dx(n), x_ad(n), p(1), dp(1), p_ad(1), step, remainder(0:4), norm, left, right
    real(rk), allocatable :: y(:), y_moved(:), dy(:), y_ad(:)
    integer :: failed_step, i, status

    model = lorenz96(n)
    call spin_up(model, x)
    forecast%model => model
    forecast%n_steps = n_steps
    forecast%observations = new_observation_set(n)
    ! Groups out of order in time, several at one time, one value twice, and at both ends
    squares%n_state = n
    squares%n_observations = n + 1
    squares%n_linearisation = n
    call new_diagonal_error(error, [(0.5_rk, i=1, n + 1)], status)
    call forecast%observations%add_selection(5, [3, 17, 3], [1.0_rk, 2.0_rk, 0.5_rk], status)
    call forecast%observations%add(7, squares, error, status)
    call forecast%observations%add_selection(0, [40, 1], [1.0_rk, 3.0_rk], status)
    call forecast%observations%add(5, squares, error, status)
    call forecast%observations%add_selection(7, [(i, i=1, n)], [(1.0_rk, i=1, n)], status)
    call check(status == status_ok, "groups are accepted in any order")
    call check(forecast%observations%n_observations == 3 + 2*(n + 1) + 2 + n, "and counted")

    allocate (y(forecast%observations%n_observations))
    allocate (y_moved, dy, y_ad, mold=y)
    p = model%parameters
    dx = random_vector(n)
    dp = 0.7_rk
    y_ad = random_vector(size(y))
    call workspace%prepare(forecast)
    call other%prepare(forecast)
    call forecast%forward(0, p, x, y, workspace, status, failed_step)
    call check(status == status_ok, "the window runs")
    call check(abs(y(3 + n + 1 + 2 - 1) - x(40)) <= 0.0_rk, "the start is observed unchanged")
    call forecast%forward_tl(0, p, dx, dy, workspace, status, dp)
    x_ad = 0.0_rk
    p_ad = 0.0_rk
    call forecast%forward_ad(0, p, y_ad, x_ad, workspace, status, p_ad)
    left = dot_product(dy, y_ad)
    right = dot_product(dx, x_ad) + dot_product(dp, p_ad)
    call check(abs(left - right) <= 1.0e-13_rk*norm2(dy)*norm2(y_ad), "window adjoint", &
      & (left - right)/(norm2(dy)*norm2(y_ad)))

    norm = norm2(dy)
    do i = 0, 4
      step = 10.0_rk**(-1 - i)
      call forecast%forward(0, p + step*dp, x + step*dx, y_moved, other, status, failed_step)
      remainder(i) = norm2(y_moved - y - step*dy)/(step*norm)
    end do
    do i = 1, 4
      call check(abs(remainder(i - 1)/remainder(i) - 10.0_rk) <= 2.0_rk, &
        & "Taylor remainder of the window falls tenfold", remainder(i - 1)/remainder(i))
    end do
  end subroutine observed_forecast_passes_taylor_and_dot_product_tests

  subroutine carried_values_are_set_from_the_state_that_is_controlled()
    type(carrying_model), target :: model
    type(observed_forecast) :: forecast
    type(forecast_workspace) :: workspace, other
    real(rk), parameter :: p(1) = [0.3_rk], dp(1) = [0.4_rk], dx(2) = [0.5_rk, -0.7_rk]
    real(rk), parameter :: x(2) = [1.2_rk, -0.4_rk]
    real(rk), dimension(6) :: y, y_moved, dy, y_ad
    real(rk) :: p_ad(1), remainder(0:4), step, x_ad(2)
    integer :: failed_step, i, repeat, status

    call model%set_sizes(2, 1, 1, 0, n_carry=1)
    forecast%model => model
    forecast%n_steps = n_steps
    forecast%observations = new_observation_set(2)
    do i = 0, n_steps, 4
      call forecast%observations%add_selection(i, [1, 2], [1.0_rk, 1.0_rk], status)
    end do
    call forecast%observations%add_selection(1, [3], [1.0_rk], status)
    call check(status == status_observation, "carried values are not observed")
    call workspace%prepare(forecast)
    call other%prepare(forecast)
    y_ad = random_vector(6)
    ! Twice, to see that nothing is left over from the first run
    do repeat = 1, 2
      call forecast%forward(0, p, x, y, workspace, status, failed_step)
      call forecast%forward_tl(0, p, dx, dy, workspace, status, dp)
      x_ad = 0.0_rk
      p_ad = 0.0_rk
      call forecast%forward_ad(0, p, y_ad, x_ad, workspace, status, p_ad)
      call check(abs(dot_product(dy, y_ad) - dot_product(dx, x_ad) - dot_product(dp, p_ad)) &
        & <= 1.0e-13_rk*norm2(dy)*norm2(y_ad), "adjoint of a window with carried values")
      do i = 0, 4
        step = 10.0_rk**(-1 - i)
        call forecast%forward(0, p + step*dp, x + step*dx, y_moved, other, status, failed_step)
        remainder(i) = norm2(y_moved - y - step*dy)/step
      end do
      do i = 1, 4
        call check(abs(remainder(i - 1)/remainder(i) - 10.0_rk) <= 2.0_rk, &
          & "Taylor remainder of a window with carried values", remainder(i - 1)/remainder(i))
      end do
    end do
  end subroutine carried_values_are_set_from_the_state_that_is_controlled

  subroutine observations_outside_are_rejected()
    type(runge_kutta_model), target :: model
    type(observation_set) :: observations
    type(diagonal_covariance) :: covariance
    type(fourdvar) :: problem
    character(len=:), allocatable :: message
    real(rk) :: sigma(n)
    integer :: status

    observations = new_observation_set(n)
    call observations%add_selection(1, [0], [1.0_rk], status)
    call check(status == status_observation, "index 0 is rejected")
    call observations%add_selection(1, [n + 1], [1.0_rk], status)
    call check(status == status_observation, "an index beyond the state is rejected")
    call observations%add_selection(-1, [1], [1.0_rk], status)
    call check(status == status_observation, "a negative step is rejected")
    call observations%add_selection(1, [1], [0.0_rk], status)
    call check(status == status_observation, "a zero error is rejected")
    call observations%add_selection(1, [1, 2], [1.0_rk], status)
    call check(status == status_wrong_shape, "too few errors are rejected")
    call observations%add_selection(9, [1], [1.0_rk], status)
    call check(status == status_ok, "a set knows no window")
    model = lorenz96(n)
    sigma = 1.0_rk
    call new_diagonal_covariance(covariance, sigma, status)
    call new_fourdvar(problem, model, n_steps, covariance, observations, fourdvar_options(), &
      & status, message)
    call check(status == status_observation .and. allocated(message), &
      & "an observation beyond the window is rejected")
    call new_diagonal_covariance(covariance, sigma(1:3), status)
    call new_fourdvar(problem, model, n_steps, covariance, observations, fourdvar_options(), &
      & status, message)
    call check(status == status_wrong_shape, "a covariance of another size is rejected")
  end subroutine observations_outside_are_rejected

  !> A twin experiment's window with every variable observed at every step.
  subroutine new_twin(model, problem, x_true, x_b, y, parameter_sigma, sigma_o, options)
    type(runge_kutta_model), intent(out), target :: model
    type(fourdvar), intent(out) :: problem
    real(rk), intent(out) :: x_true(n), x_b(n)
    real(rk), allocatable, intent(out) :: y(:)
    real(rk), intent(in), optional :: parameter_sigma(:)
    real(rk), intent(in), optional :: sigma_o
    type(fourdvar_options), intent(in), optional :: options
    type(observation_set) :: observations
    type(full_covariance) :: covariance
    type(fourdvar_options) :: used
    type(forecast_workspace) :: workspace
    character(len=:), allocatable :: message
    real(rk) :: b(n, n), error, work(0)
    integer :: failed_step, i, j, status

    model = lorenz96(n)
    call spin_up(model, x_true)
    error = 1.0_rk
    if (present(sigma_o)) error = sigma_o
    if (present(options)) used = options
    do j = 1, n
      do i = 1, n
        b(i, j) = 0.1_rk*exp(-0.5_rk*real(min(abs(i - j), n - abs(i - j)), rk)**2)
      end do
      b(j, j) = b(j, j) + 0.01_rk
    end do
    call new_full_covariance(covariance, b, status)
    call check(status == status_ok, "the covariance is accepted")
    call covariance%forward(random_vector(n), x_b, work)
    x_b = x_true + x_b
    observations = new_observation_set(n)
    call add_all_steps(observations, error)
    call new_fourdvar(problem, model, n_steps, covariance, observations, used, status, message, &
      & parameter_sigma)
    call check(status == status_ok, "the problem is accepted")
    allocate (y(observations%n_observations))
    call workspace%prepare(problem%forecast)
    call problem%forecast%forward(0, model%parameters, x_true, y, workspace, status, failed_step)
    y = y + error*random_vector(size(y))
  end subroutine new_twin

  subroutine gradient_is_that_of_the_cost()
    type(runge_kutta_model), target :: model
    type(fourdvar) :: problem
    type(fourdvar_workspace) :: workspace
    real(rk) :: x_true(n), x_b(n), jb, jo, j0, slope, step, remainder(0:4)
    real(rk), allocatable :: y(:), v(:), dv(:), v_ad(:)
    integer :: failed_step, i, m, status

    call new_twin(model, problem, x_true, x_b, y, parameter_sigma=[0.5_rk])
    m = problem%control%n_control
    call check(m == n + 1, "state and parameter are controlled")
    call check(problem%control%find("parameters") == 2, "and their blocks are named")
    allocate (v(m), dv(m), v_ad(m))
    v = 0.3_rk*random_vector(m)
    dv = random_vector(m)
    call problem%cost_and_gradient(3, x_b, model%parameters, y, v, workspace, jb, jo, v_ad, &
      & status, failed_step)
    j0 = jb + jo
    slope = dot_product(v_ad, dv)
    do i = 0, 4
      step = 10.0_rk**(-2 - i)
      call problem%cost(3, x_b, model%parameters, y, v + step*dv, workspace, jb, jo, status, &
        & failed_step)
      remainder(i) = abs((jb + jo - j0)/(step*slope) - 1.0_rk)
    end do
    do i = 1, 4
      call check(abs(remainder(i - 1)/remainder(i) - 10.0_rk) <= 2.0_rk, &
        & "Taylor remainder of the cost falls tenfold", remainder(i - 1)/remainder(i))
    end do
  end subroutine gradient_is_that_of_the_cost

  subroutine hessian_is_symmetric()
    type(runge_kutta_model), target :: model
    type(fourdvar) :: problem
    type(fourdvar_workspace) :: workspace
    real(rk) :: x_true(n), x_b(n), jb, jo, left, right
    real(rk), dimension(n + 1) :: v, a, b, h_a, h_b
    real(rk), allocatable :: y(:)
    integer :: failed_step, status

    call new_twin(model, problem, x_true, x_b, y, parameter_sigma=[0.5_rk])
    v = 0.0_rk
    call problem%cost_and_gradient(0, x_b, model%parameters, y, v, workspace, jb, jo, a, status, &
      & failed_step)
    a = random_vector(n + 1)
    b = random_vector(n + 1)
    call problem%hessian(0, a, h_a, workspace, status)
    call problem%hessian(0, b, h_b, workspace, status)
    left = dot_product(a, h_b)
    right = dot_product(b, h_a)
    call check(abs(left - right) <= 1.0e-13_rk*norm2(a)*norm2(h_b), "the Hessian is symmetric", &
      & left - right)
    call check(dot_product(a, h_a) > dot_product(a, a), "and larger than the identity")
  end subroutine hessian_is_symmetric

  subroutine analysis_never_increases_the_cost_and_leaves_no_gradient()
    type(runge_kutta_model), target :: model
    type(fourdvar) :: problem
    type(fourdvar_workspace) :: workspace
    type(fourdvar_options) :: options
    real(rk) :: x_true(n), x_b(n), x_a(n), x_end(n), p_a(1), jb, jo, before
    real(rk) :: trajectory(n, 0:n_steps), v_ad(n), v(n), norm0
    real(rk), allocatable :: y(:)
    integer :: failed_step, i, status, trial

    options%n_outer = 100
    options%n_inner = 100
    options%gradient_tolerance = 1.0e-10_rk
    options%outer_tolerance = 1.0e-11_rk
    do trial = 1, 5
      options%reorthogonalise = trial > 3
      call new_twin(model, problem, x_true, x_b, y, options=options)
      ! From far away the full step overshoots, and the search must shorten it.
      x_b = x_b + real(trial - 1, rk)*random_vector(n)
      v = 0.0_rk
      call problem%cost_and_gradient(0, x_b, model%parameters, y, v, workspace, jb, jo, v_ad, &
        & status, failed_step)
      norm0 = norm2(v_ad)
      call problem%analyse(0, x_b, model%parameters, y, v, x_a, p_a, x_end, workspace, status, &
        & failed_step, trajectory)
      call check(status == status_ok, "the window is analysed")
      associate (history => workspace%history)
        do i = 1, history%n_outer
          before = history%jb(i - 1) + history%jo(i - 1)
          call check(history%jb(i) + history%jo(i) <= before*(1.0_rk + 2.0e-14_rk), &
            & "J never increases", history%jb(i) + history%jo(i) - before)
        end do
        call check(history%converged, "the outer iterations converge")
        call check(history%jb(history%n_outer) + history%jo(history%n_outer) &
          & < 0.9_rk*(history%jb(0) + history%jo(0)), "J is reduced")
      end associate
      call problem%cost_and_gradient(0, x_b, model%parameters, y, v, workspace, jb, jo, v_ad, &
        & status, failed_step)
      call check(norm2(v_ad) <= 1.0e-8_rk*norm0, "no gradient is left", norm2(v_ad)/norm0)
      call check(maxval(abs(trajectory(:, 0) - x_a)) <= 0.0_rk, "the trajectory starts at x_a")
      call check(maxval(abs(trajectory(:, n_steps) - x_end)) <= 0.0_rk, "and ends at x_end")
      call check(norm2(p_a - model%parameters) <= 0.0_rk, "uncontrolled parameters stay")
      if (trial == 1) call check(norm2(x_a - x_true) < norm2(x_b - x_true), &
        & "the analysis is nearer to the truth")
    end do
  end subroutine analysis_never_increases_the_cost_and_leaves_no_gradient

  subroutine nonlinear_operators_are_assimilated()
    type(runge_kutta_model), target :: model
    type(fourdvar) :: problem, nonlinear
    type(fourdvar_workspace) :: workspace
    type(fourdvar_options) :: options
    type(observation_set) :: observations
    type(square_operator) :: squares
    type(diagonal_error) :: error
    character(len=:), allocatable :: message
    real(rk) :: x_true(n), x_b(n), x_a(n), x_end(n), p_a(1), v(n)
    real(rk), allocatable :: y(:)
    integer :: failed_step, i, s, status

    options%n_outer = 10
    call new_twin(model, problem, x_true, x_b, y, options=options)
    squares%n_state = n
    squares%n_observations = n + 1
    squares%n_linearisation = n
    call new_diagonal_error(error, [(1.0_rk, i=1, n + 1)], status)
    observations = new_observation_set(n)
    do s = 1, n_steps
      call observations%add(s, squares, error, status)
    end do
    call new_fourdvar(nonlinear, model, n_steps, problem%control%blocks(1)%covariance, &
      & observations, options, status, message)
    call check(status == status_ok, "a nonlinear operator is accepted")
    deallocate (y)
    allocate (y(observations%n_observations))
    call workspace%prepare(nonlinear)
    call nonlinear%forecast%forward(0, model%parameters, x_true, y, workspace%forecast, status, &
      & failed_step)
    v = 0.0_rk
    call nonlinear%analyse(0, x_b, model%parameters, y, v, x_a, p_a, x_end, workspace, status, &
      & failed_step)
    call check(status == status_ok, "squares are assimilated")
    call check(norm2(x_a - x_true) < 0.2_rk*norm2(x_b - x_true), "and find the state", &
      & norm2(x_a - x_true)/norm2(x_b - x_true))
  end subroutine nonlinear_operators_are_assimilated

  !> A window without steps (3D-Var) whose squares are observed from near zero, where their
  !> derivative is small and the linearised problem overshoots.
  subroutine a_step_that_overshoots_is_shortened()
    type(runge_kutta_model), target :: model
    type(fourdvar) :: problem
    type(fourdvar_workspace) :: workspace
    type(fourdvar_options) :: options
    real(rk) :: x_a(n)

    options%n_outer = 60
    options%n_inner = 200
    options%gradient_tolerance = 1.0e-8_rk
    options%outer_tolerance = 1.0e-8_rk
    model = lorenz96(n)
    call analyse_squares(model, options, problem, workspace, x_a)
    associate (history => workspace%history)
      call check(history%step_length(1) < 1.0_rk, "a step that overshoots is shortened", &
        & history%step_length(1))
      call check(history%converged, "and the minimum is found nevertheless")
    end associate
    call check(maxval(abs(x_a - 3.0_rk)) < 0.05_rk, "the root of the squares is analysed", &
      & maxval(abs(x_a - 3.0_rk)))
  end subroutine a_step_that_overshoots_is_shortened

  subroutine a_step_that_blows_up_is_shortened()
    type(runge_kutta_model), target :: model
    type(fourdvar) :: problem
    type(fourdvar_workspace) :: workspace, unlimited
    type(fourdvar_options) :: options
    real(rk) :: x_a(n)

    model = lorenz96(n)
    options%n_outer = 1
    options%n_inner = 200
    call analyse_squares(model, options, problem, unlimited, x_a)
    ! Refuse what the search accepted without a limit, and all beyond.
    model%blow_up_limit = 0.9_rk*maxval(abs(x_a))
    call analyse_squares(model, options, problem, workspace, x_a)
    call check(workspace%history%step_length(1) < unlimited%history%step_length(1), &
      & "a step that blows up is shortened", workspace%history%step_length(1))
    call check(workspace%history%step_length(1) > 0.0_rk, "and something shorter accepted")
    call check(maxval(abs(x_a)) <= model%blow_up_limit, "the analysis has not blown up")
  end subroutine a_step_that_blows_up_is_shortened

  subroutine analyse_squares(model, options, problem, workspace, x_a)
    type(runge_kutta_model), intent(in), target :: model
    type(fourdvar_options), intent(in) :: options
    type(fourdvar), intent(out) :: problem
    type(fourdvar_workspace), intent(inout) :: workspace
    real(rk), intent(out) :: x_a(n)
    type(observation_set) :: observations
    type(square_operator) :: squares
    type(diagonal_error) :: error
    type(diagonal_covariance) :: covariance
    character(len=:), allocatable :: message
    real(rk) :: x_b(n), x_end(n), p_a(1), v(n), y(n + 1)
    integer :: failed_step, i, status

    squares%n_state = n
    squares%n_observations = n + 1
    squares%n_linearisation = n
    call new_diagonal_error(error, [(0.1_rk, i=1, n), 1.0e3_rk], status)
    call new_diagonal_covariance(covariance, [(1.0_rk, i=1, n)], status)
    observations = new_observation_set(n)
    call observations%add(0, squares, error, status)
    call new_fourdvar(problem, model, 0, covariance, observations, options, status, message)
    call check(status == status_ok, "a window without steps is accepted")
    x_b = 0.05_rk
    y(1:n) = 9.0_rk
    y(n + 1) = 3.0_rk*n
    v = 0.0_rk
    call problem%analyse(0, x_b, model%parameters, y, v, x_a, p_a, x_end, workspace, status, &
      & failed_step)
    call check(status == status_ok, "squares are analysed from near zero")
  end subroutine analyse_squares

  subroutine forcing_is_recovered_with_the_state()
    type(runge_kutta_model), target :: model
    type(fourdvar) :: problem
    type(fourdvar_workspace) :: workspace
    type(fourdvar_options) :: options
    real(rk) :: x_true(n), x_b(n), x_a(n), x_end(n), p_b(1), p_a(1), v(n + 1)
    real(rk), allocatable :: y(:)
    integer :: failed_step, status

    options%n_outer = 10
    options%gradient_tolerance = 1.0e-8_rk
    call new_twin(model, problem, x_true, x_b, y, parameter_sigma=[1.0_rk], sigma_o=0.01_rk, &
      & options=options)
    p_b = 7.0_rk
    v = 0.0_rk
    call problem%analyse(0, x_b, p_b, y, v, x_a, p_a, x_end, workspace, status, failed_step)
    call check(status == status_ok, "state and forcing are analysed")
    call check(abs(p_a(1) - 8.0_rk) <= 0.005_rk*8.0_rk, "the forcing is found", p_a(1))
  end subroutine forcing_is_recovered_with_the_state

  subroutine blow_up_is_reported_with_its_step()
    type(runge_kutta_model), target :: model
    type(fourdvar) :: problem
    type(fourdvar_workspace) :: workspace
    real(rk) :: x_true(n), x_b(n), x_a(n), x_end(n), p_a(1), v(n)
    real(rk), allocatable :: y(:)
    integer :: failed_step, status

    call new_twin(model, problem, x_true, x_b, y)
    v = 0.0_rk
    x_b(7) = 1.0e4_rk
    call problem%analyse(0, x_b, model%parameters, y, v, x_a, p_a, x_end, workspace, status, &
      & failed_step)
    call check(status == status_blow_up, "a model that blows up is reported")
    call check(failed_step >= 1 .and. failed_step <= n_steps, "with its step", &
      & real(failed_step, rk))
    x_b = x_true
    y(5) = ieee_value(y(5), ieee_quiet_nan)
    call problem%analyse(0, x_b, model%parameters, y, v, x_a, p_a, x_end, workspace, status, &
      & failed_step)
    call check(status == status_observation, "an observation that is not a number is rejected")
  end subroutine blow_up_is_reported_with_its_step

  subroutine a_second_window_needs_no_new_workspace()
    type(runge_kutta_model), target :: model
    type(fourdvar) :: problem
    type(fourdvar_workspace) :: workspace, fresh
    real(rk), dimension(n) :: x_true, x_b, x_a, x_first, x_fresh, x_end, v
    real(rk) :: p_a(1)
    real(rk), allocatable :: y(:)
    integer :: failed_step, i, status

    call new_twin(model, problem, x_true, x_b, y)
    v = 0.0_rk
    call problem%analyse(0, x_b, model%parameters, y, v, x_fresh, p_a, x_end, fresh, status, &
      & failed_step)
    v = 0.0_rk
    call problem%analyse(5, x_b + 1.0_rk, model%parameters, y, v, x_first, p_a, x_end, workspace, &
      & status, failed_step)
    do i = 1, 2
      v = 0.0_rk
      call problem%analyse(0, x_b, model%parameters, y, v, x_a, p_a, x_end, workspace, status, &
        & failed_step)
      call check(maxval(abs(x_a - x_fresh)) <= 0.0_rk, "a used workspace gives the same, bitwise")
    end do
  end subroutine a_second_window_needs_no_new_workspace

end program test_assimilation
