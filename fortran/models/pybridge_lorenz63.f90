! SPDX-License-Identifier: MIT
!> The Lorenz-63 model of convection (Lorenz 1963, eqs. 25-27):
!>
!>     dx/dt = sigma (y - x),  dy/dt = x (rho - z) - y,  dz/dt = x y - beta z
module pybridge_lorenz63
  use pybridge_kinds, only: rk
  use pybridge_tendency, only: tendency_term
  implicit none
  private
  public :: lorenz63_tendency, new_lorenz63_tendency

  !> State: (x, y, z). Parameters: (sigma, rho, beta)
  type, extends(tendency_term) :: lorenz63_tendency
  contains
    procedure :: forward
    procedure :: forward_tl
    procedure :: forward_ad
  end type lorenz63_tendency

contains

  pure function new_lorenz63_tendency(sigma, rho, beta) result(tendency)
    !> Prandtl number
    real(rk), intent(in) :: sigma
    !> Rayleigh number over its critical value
    real(rk), intent(in) :: rho
    !> Geometric factor
    real(rk), intent(in) :: beta
    type(lorenz63_tendency) :: tendency

    tendency%n = 3
    tendency%n_parameters = 3
    allocate (tendency%parameters, source=[sigma, rho, beta])
  end function new_lorenz63_tendency

  subroutine forward(self, t, p, x, f, linearisation, work)
    class(lorenz63_tendency), intent(in) :: self
    real(rk), intent(in) :: t
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n)
    real(rk), intent(out) :: f(self%n)
    real(rk), intent(inout) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: work(self%n_work)

    associate (unused_t => t, unused_record => linearisation, unused_work => work)
    end associate
    f(1) = p(1)*(x(2) - x(1))
    f(2) = x(1)*(p(2) - x(3)) - x(2)
    f(3) = x(1)*x(2) - p(3)*x(3)
  end subroutine forward

  subroutine forward_tl(self, t, p, x, linearisation, dx, df, work, dp)
    class(lorenz63_tendency), intent(in) :: self
    real(rk), intent(in) :: t
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(in) :: dx(self%n)
    real(rk), intent(out) :: df(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    real(rk), intent(in), optional :: dp(self%n_parameters)

    associate (unused_t => t, unused_record => linearisation, unused_work => work)
    end associate
    df(1) = p(1)*(dx(2) - dx(1))
    df(2) = dx(1)*(p(2) - x(3)) - x(1)*dx(3) - dx(2)
    df(3) = dx(1)*x(2) + x(1)*dx(2) - p(3)*dx(3)
    if (.not. present(dp)) return
    df(1) = df(1) + dp(1)*(x(2) - x(1))
    df(2) = df(2) + dp(2)*x(1)
    df(3) = df(3) - dp(3)*x(3)
  end subroutine forward_tl

  subroutine forward_ad(self, t, p, x, linearisation, f_ad, x_ad, work, p_ad)
    class(lorenz63_tendency), intent(in) :: self
    real(rk), intent(in) :: t
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(in) :: f_ad(self%n)
    real(rk), intent(inout) :: x_ad(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    associate (unused_t => t, unused_record => linearisation, unused_work => work)
    end associate
    x_ad(1) = x_ad(1) - p(1)*f_ad(1) + (p(2) - x(3))*f_ad(2) + x(2)*f_ad(3)
    x_ad(2) = x_ad(2) + p(1)*f_ad(1) - f_ad(2) + x(1)*f_ad(3)
    x_ad(3) = x_ad(3) - x(1)*f_ad(2) - p(3)*f_ad(3)
    if (.not. present(p_ad)) return
    p_ad(1) = p_ad(1) + (x(2) - x(1))*f_ad(1)
    p_ad(2) = p_ad(2) + x(1)*f_ad(2)
    p_ad(3) = p_ad(3) - x(3)*f_ad(3)
  end subroutine forward_ad

end module pybridge_lorenz63
