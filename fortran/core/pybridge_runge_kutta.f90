! SPDX-License-Identifier: MIT
!> The classical fourth-order Runge-Kutta scheme over any tendency, with exact tangent linear and
!> adjoint of the discrete step.
module pybridge_runge_kutta
  use pybridge_forecast_model, only: forecast_model
  use pybridge_kinds, only: rk
  use pybridge_status, only: status_ok
  use pybridge_tendency, only: tendency_term
  implicit none
  private
  public :: runge_kutta_model, new_runge_kutta_model

  !> A forecast model that integrates a tendency.
  !>
  !> The linearisation holds, for each of the four stages, the state at which the tendency was
  !> evaluated, then the tendency's own record.
  type, extends(forecast_model) :: runge_kutta_model
    class(tendency_term), allocatable :: tendency
  contains
    procedure :: step
    procedure :: step_tl
    procedure :: step_ad
    procedure :: get_tendency
  end type runge_kutta_model

  integer, parameter :: n_stages = 4
  !> Where each stage stands within the step (c_i), the Butcher tableau's left column
  real(rk), parameter :: stage_time(n_stages) = [0.0_rk, 0.5_rk, 0.5_rk, 1.0_rk]
  !> Weight of each stage's tendency in the next stage's state (a_{i+1,i}); the last has no next
  real(rk), parameter :: stage_step(0:n_stages) = [0.0_rk, 0.5_rk, 0.5_rk, 1.0_rk, 0.0_rk]
  !> Weights of the tendencies in the step (b_i)
  real(rk), parameter :: stage_weight(0:n_stages) = &
    & [0.0_rk, 1.0_rk/6.0_rk, 1.0_rk/3.0_rk, 1.0_rk/3.0_rk, 1.0_rk/6.0_rk]

contains

  !> Make a forecast model from a tendency, which is copied.
  function new_runge_kutta_model(tendency, dt) result(model)
    class(tendency_term), intent(in) :: tendency
    !> Time step
    real(rk), intent(in) :: dt
    type(runge_kutta_model) :: model

    allocate (model%tendency, source=tendency)
    model%dt = dt
    if (allocated(tendency%parameters)) then
      model%parameters = tendency%parameters
    else
      allocate (model%parameters(tendency%n_parameters), source=0.0_rk)
    end if
    call model%set_sizes(tendency%n, tendency%n_parameters, &
      & n_stages*(tendency%n + tendency%n_linearisation), 3*tendency%n + tendency%n_work)
  end function new_runge_kutta_model

  subroutine get_tendency(self, tendency)
    class(runge_kutta_model), intent(in) :: self
    class(tendency_term), allocatable, intent(out) :: tendency

    allocate (tendency, source=self%tendency)
  end subroutine get_tendency

  subroutine step(self, k, p, x, linearisation, work, status)
    class(runge_kutta_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(inout) :: x(self%n)
    real(rk), intent(inout) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status

    call forward_stages(self, self%tendency, self%n, self%tendency%n_linearisation, k, p, x, &
      & linearisation, work(1:self%n), work(self%n + 1:2*self%n), &
      & work(3*self%n + 1:))
    status = status_ok
  end subroutine step

  !> The body of `step`, with its buffers given their shapes.
  subroutine forward_stages(self, tendency, n, n_record, k, p, x, record, f, x_next, work)
    class(runge_kutta_model), intent(in) :: self
    class(tendency_term), intent(in) :: tendency
    integer, intent(in) :: n
    integer, intent(in) :: n_record
    integer, intent(in) :: k
    real(rk), intent(in) :: p(tendency%n_parameters)
    real(rk), intent(inout) :: x(n)
    real(rk), intent(inout) :: record(n + n_record, n_stages)
    real(rk), intent(inout) :: f(n)
    real(rk), intent(inout) :: x_next(n)
    real(rk), intent(inout) :: work(tendency%n_work)

    integer :: i, s
    real(rk) :: h, a, b

    h = self%dt
    do i = 1, n
      record(i, 1) = x(i)
      x_next(i) = x(i)
    end do
    do s = 1, n_stages - 1
      call tendency%forward((real(k, rk) + stage_time(s))*h, p, record(1:n, s), f, &
        & record(n + 1:, s), work)
      a = stage_step(s)*h
      b = stage_weight(s)*h
      do i = 1, n
        record(i, s + 1) = x(i) + a*f(i)
        x_next(i) = x_next(i) + b*f(i)
      end do
    end do
    call tendency%forward((real(k, rk) + stage_time(n_stages))*h, p, record(1:n, n_stages), f, &
      & record(n + 1:, n_stages), work)
    b = stage_weight(n_stages)*h
    do i = 1, n
      x(i) = x_next(i) + b*f(i)
    end do
  end subroutine forward_stages

  subroutine step_tl(self, k, p, linearisation, dx, work, status, dp)
    class(runge_kutta_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: dx(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(in), optional :: dp(self%n_parameters)

    call tangent_linear_stages(self, self%tendency, self%n, self%tendency%n_linearisation, k, p, &
      & linearisation, dx, work(1:self%n), work(self%n + 1:2*self%n), &
      & work(2*self%n + 1:3*self%n), work(3*self%n + 1:), dp)
    status = status_ok
  end subroutine step_tl

  subroutine tangent_linear_stages(self, tendency, n, n_record, k, p, record, dx, df, dx_next, &
    & dx_stage, work, dp)
    class(runge_kutta_model), intent(in) :: self
    class(tendency_term), intent(in) :: tendency
    integer, intent(in) :: n
    integer, intent(in) :: n_record
    integer, intent(in) :: k
    real(rk), intent(in) :: p(tendency%n_parameters)
    real(rk), intent(in) :: record(n + n_record, n_stages)
    real(rk), intent(inout) :: dx(n)
    real(rk), intent(inout) :: df(n)
    real(rk), intent(inout) :: dx_next(n)
    real(rk), intent(inout) :: dx_stage(n)
    real(rk), intent(inout) :: work(tendency%n_work)
    real(rk), intent(in), optional :: dp(tendency%n_parameters)

    integer :: i, s
    real(rk) :: h, a, b

    h = self%dt
    do i = 1, n
      dx_stage(i) = dx(i)
      dx_next(i) = dx(i)
    end do
    do s = 1, n_stages
      call tendency%forward_tl((real(k, rk) + stage_time(s))*h, p, record(1:n, s), &
        & record(n + 1:, s), dx_stage, df, work, dp)
      b = stage_weight(s)*h
      a = stage_step(s)*h
      do i = 1, n
        dx_stage(i) = dx(i) + a*df(i)
        dx_next(i) = dx_next(i) + b*df(i)
      end do
    end do
    do i = 1, n
      dx(i) = dx_next(i)
    end do
  end subroutine tangent_linear_stages

  subroutine step_ad(self, k, p, linearisation, x_ad, work, status, p_ad)
    class(runge_kutta_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: x_ad(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    call adjoint_stages(self, self%tendency, self%n, self%tendency%n_linearisation, k, p, &
      & linearisation, x_ad, work(1:self%n), work(self%n + 1:2*self%n), &
      & work(2*self%n + 1:3*self%n), work(3*self%n + 1:), p_ad)
    status = status_ok
  end subroutine step_ad

  subroutine adjoint_stages(self, tendency, n, n_record, k, p, record, x_ad, f_ad, x_stage_ad, &
    & x_next_ad, work, p_ad)
    class(runge_kutta_model), intent(in) :: self
    class(tendency_term), intent(in) :: tendency
    integer, intent(in) :: n
    integer, intent(in) :: n_record
    integer, intent(in) :: k
    real(rk), intent(in) :: p(tendency%n_parameters)
    real(rk), intent(in) :: record(n + n_record, n_stages)
    real(rk), intent(inout) :: x_ad(n)
    real(rk), intent(inout) :: f_ad(n)
    real(rk), intent(inout) :: x_stage_ad(n)
    real(rk), intent(inout) :: x_next_ad(n)
    real(rk), intent(inout) :: work(tendency%n_work)
    real(rk), intent(inout), optional :: p_ad(tendency%n_parameters)

    integer :: i, s
    real(rk) :: h, a, b

    h = self%dt
    b = stage_weight(n_stages)*h
    do i = 1, n
      x_next_ad(i) = x_ad(i)
      f_ad(i) = b*x_ad(i)
    end do
    do s = n_stages, 1, -1
      do i = 1, n
        x_stage_ad(i) = 0.0_rk
      end do
      call tendency%forward_ad((real(k, rk) + stage_time(s))*h, p, record(1:n, s), &
        & record(n + 1:, s), f_ad, x_stage_ad, work, p_ad)
      ! What the previous stage's tendency receives (nothing, where there is none)
      a = stage_step(s - 1)*h
      b = stage_weight(s - 1)*h
      do i = 1, n
        x_ad(i) = x_ad(i) + x_stage_ad(i)
        f_ad(i) = b*x_next_ad(i) + a*x_stage_ad(i)
      end do
    end do
  end subroutine adjoint_stages

end module pybridge_runge_kutta
