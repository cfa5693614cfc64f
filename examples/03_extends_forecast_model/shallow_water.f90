! SPDX-License-Identifier: MIT
!> Your own model by the third door: a Fortran type.
!>
!> The shallow-water equations in one dimension, on a ring of m points,
!>
!>     du/dt = -u du/dx - g dh/dx - r u,    dh/dt = -d(h u)/dx,
!>
!> by centred differences. State: (u, h), n = 2 m values. Parameters: (g, r).
!>
!> Only the tendency is ours: pybridge's Runge-Kutta scheme makes a forecast model of it, with exact
!> tangent linear and adjoint of the discrete step. (A model with a time scheme of its own extends
!> `forecast_model`, and has `step`, `step_tl`, `step_ad` in place of these three.)
module shallow_water
  use pybridge, only: new_runge_kutta_model, rk, runge_kutta_model, tendency_term
  implicit none
  private
  public :: new_shallow_water_model

  type, extends(tendency_term) :: shallow_water_tendency
    !> Points on the ring
    integer :: m = 0
    !> One over twice their distance
    real(rk) :: c = 0.0_rk
  contains
    procedure :: forward
    procedure :: forward_tl
    procedure :: forward_ad
  end type shallow_water_tendency

contains

  function new_shallow_water_model(m, spacing, dt, gravity, friction) result(model)
    !> Points on the ring, and their distance
    integer, intent(in) :: m
    real(rk), intent(in) :: spacing
    !> Time step
    real(rk), intent(in) :: dt
    !> Default parameters
    real(rk), intent(in) :: gravity, friction
    type(runge_kutta_model) :: model

    type(shallow_water_tendency) :: tendency

    tendency%m = m
    tendency%c = 0.5_rk/spacing
    tendency%n = 2*m
    tendency%n_parameters = 2
    tendency%parameters = [gravity, friction]
    ! Scratch space for each call
    tendency%n_work = m
    model = new_runge_kutta_model(tendency, dt)
  end function new_shallow_water_model

  !> f <- tendency of x
  subroutine forward(self, t, p, x, f, linearisation, work)
    class(shallow_water_tendency), intent(in) :: self
    real(rk), intent(in) :: t
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n)
    real(rk), intent(out) :: f(self%n)
    real(rk), intent(inout) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: work(self%n_work)

    associate (m => self%m, u => x(1:self%m), h => x(self%m + 1:), unused_t => t, &
      & unused_record => linearisation)
      f(1:m) = -p(2)*u
      work = 0.5_rk*u**2 + p(1)*h
      call subtract_gradient(m, self%c, work, f(1:m))
      f(m + 1:) = 0.0_rk
      work = h*u
      call subtract_gradient(m, self%c, work, f(m + 1:))
    end associate
  end subroutine forward

  !> df <- (d tendency/dx) dx + (d tendency/dp) dp
  subroutine forward_tl(self, t, p, x, linearisation, dx, df, work, dp)
    class(shallow_water_tendency), intent(in) :: self
    real(rk), intent(in) :: t
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(in) :: dx(self%n)
    real(rk), intent(out) :: df(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    real(rk), intent(in), optional :: dp(self%n_parameters)

    associate (m => self%m, u => x(1:self%m), h => x(self%m + 1:), du => dx(1:self%m), &
      & dh => dx(self%m + 1:), unused_t => t, unused_record => linearisation)
      df(1:m) = -p(2)*du
      if (present(dp)) df(1:m) = df(1:m) - dp(2)*u
      work = u*du + p(1)*dh
      if (present(dp)) work = work + dp(1)*h
      call subtract_gradient(m, self%c, work, df(1:m))
      df(m + 1:) = 0.0_rk
      work = dh*u + h*du
      call subtract_gradient(m, self%c, work, df(m + 1:))
    end associate
  end subroutine forward_tl

  !> x_ad <- x_ad + (d tendency/dx)^T f_ad,  p_ad <- p_ad + (d tendency/dp)^T f_ad
  subroutine forward_ad(self, t, p, x, linearisation, f_ad, x_ad, work, p_ad)
    class(shallow_water_tendency), intent(in) :: self
    real(rk), intent(in) :: t
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(in) :: f_ad(self%n)
    real(rk), intent(inout) :: x_ad(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    associate (m => self%m, u => x(1:self%m), h => x(self%m + 1:), unused_t => t, &
      & unused_record => linearisation)
      ! The difference is antisymmetric: its adjoint is minus itself
      work = 0.0_rk
      call subtract_gradient(m, -self%c, f_ad(m + 1:), work)
      x_ad(1:m) = x_ad(1:m) + h*work
      x_ad(m + 1:) = x_ad(m + 1:) + u*work
      work = 0.0_rk
      call subtract_gradient(m, -self%c, f_ad(1:m), work)
      x_ad(1:m) = x_ad(1:m) + u*work - p(2)*f_ad(1:m)
      x_ad(m + 1:) = x_ad(m + 1:) + p(1)*work
      if (present(p_ad)) then
        p_ad(1) = p_ad(1) + dot_product(h, work)
        p_ad(2) = p_ad(2) - dot_product(u, f_ad(1:m))
      end if
    end associate
  end subroutine forward_ad

  !> f_i <- f_i - c (y_{i+1} - y_{i-1}) on the ring
  pure subroutine subtract_gradient(m, c, y, f)
    integer, intent(in) :: m
    real(rk), intent(in) :: c
    real(rk), intent(in) :: y(m)
    real(rk), intent(inout) :: f(m)

    integer :: i

    f(1) = f(1) - c*(y(2) - y(m))
    do i = 2, m - 1
      f(i) = f(i) - c*(y(i + 1) - y(i - 1))
    end do
    f(m) = f(m) - c*(y(1) - y(m - 1))
  end subroutine subtract_gradient

end module shallow_water
