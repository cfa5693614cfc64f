! SPDX-License-Identifier: MIT
!> The recharge oscillator of El Nino (Jin 1997, J. Atmos. Sci. 54, 811, sections 3 and 4):
!>
!>     dT/dt = (gamma b - c) T + gamma h - e_n (h + b T)**3
!>     dh/dt = -r h - alpha b T,                             b = b_0 mu
!>
!> T is the sea-surface temperature anomaly of the eastern Pacific (unit 7.5 K), h the thermocline
!> depth anomaly of the western Pacific (unit 150 m); the unit of time is two months.
module pybridge_recharge_oscillator
  use pybridge_kinds, only: rk
  use pybridge_tendency, only: tendency_term
  implicit none
  private
  public :: recharge_oscillator_tendency, new_recharge_oscillator_tendency

  !> State: (T, h). Parameters: (mu, e_n, c, gamma, r, alpha, b_0)
  type, extends(tendency_term) :: recharge_oscillator_tendency
  contains
    procedure :: forward
    procedure :: forward_tl
    procedure :: forward_ad
  end type recharge_oscillator_tendency

  integer, parameter :: i_mu = 1, i_e_n = 2, i_c = 3, i_gamma = 4, i_r = 5, i_alpha = 6, i_b_0 = 7

contains

  pure function new_recharge_oscillator_tendency(parameters) result(tendency)
    !> mu: relative coupling coefficient; e_n: nonlinearity; c: damping of T; gamma: feedback of the
    !> thermocline on T; r: damping of h; alpha: wind stress on the recharge; b_0: high-end
    !> estimate of the coupling
    real(rk), intent(in) :: parameters(7)
    type(recharge_oscillator_tendency) :: tendency

    tendency%n = 2
    tendency%n_parameters = 7
    allocate (tendency%parameters, source=parameters)
  end function new_recharge_oscillator_tendency

  subroutine forward(self, t, p, x, f, linearisation, work)
    class(recharge_oscillator_tendency), intent(in) :: self
    real(rk), intent(in) :: t
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n)
    real(rk), intent(out) :: f(self%n)
    real(rk), intent(inout) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: work(self%n_work)

    real(rk) :: b, e

    associate (unused_t => t, unused_record => linearisation, unused_work => work)
    end associate
    b = p(i_b_0)*p(i_mu)
    e = x(2) + b*x(1)
    f(1) = (p(i_gamma)*b - p(i_c))*x(1) + p(i_gamma)*x(2) - p(i_e_n)*e**3
    f(2) = -p(i_r)*x(2) - p(i_alpha)*b*x(1)
  end subroutine forward

  subroutine forward_tl(self, t, p, x, linearisation, dx, df, work, dp)
    class(recharge_oscillator_tendency), intent(in) :: self
    real(rk), intent(in) :: t
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(in) :: dx(self%n)
    real(rk), intent(out) :: df(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    real(rk), intent(in), optional :: dp(self%n_parameters)

    real(rk) :: b, db, e, de

    associate (unused_t => t, unused_record => linearisation, unused_work => work)
    end associate
    b = p(i_b_0)*p(i_mu)
    e = x(2) + b*x(1)
    de = dx(2) + b*dx(1)
    df(1) = (p(i_gamma)*b - p(i_c))*dx(1) + p(i_gamma)*dx(2) - 3.0_rk*p(i_e_n)*e**2*de
    df(2) = -p(i_r)*dx(2) - p(i_alpha)*b*dx(1)
    if (.not. present(dp)) return
    db = dp(i_b_0)*p(i_mu) + p(i_b_0)*dp(i_mu)
    df(1) = df(1) + (dp(i_gamma)*b + p(i_gamma)*db - dp(i_c))*x(1) + dp(i_gamma)*x(2) &
      & - dp(i_e_n)*e**3 - 3.0_rk*p(i_e_n)*e**2*db*x(1)
    df(2) = df(2) - dp(i_r)*x(2) - (dp(i_alpha)*b + p(i_alpha)*db)*x(1)
  end subroutine forward_tl

  subroutine forward_ad(self, t, p, x, linearisation, f_ad, x_ad, work, p_ad)
    class(recharge_oscillator_tendency), intent(in) :: self
    real(rk), intent(in) :: t
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(in) :: f_ad(self%n)
    real(rk), intent(inout) :: x_ad(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    real(rk) :: b, b_ad, e, e_ad

    associate (unused_t => t, unused_record => linearisation, unused_work => work)
    end associate
    b = p(i_b_0)*p(i_mu)
    e = x(2) + b*x(1)
    e_ad = -3.0_rk*p(i_e_n)*e**2*f_ad(1)
    x_ad(1) = x_ad(1) + (p(i_gamma)*b - p(i_c))*f_ad(1) - p(i_alpha)*b*f_ad(2) + b*e_ad
    x_ad(2) = x_ad(2) + p(i_gamma)*f_ad(1) - p(i_r)*f_ad(2) + e_ad
    if (.not. present(p_ad)) return
    b_ad = p(i_gamma)*x(1)*f_ad(1) - p(i_alpha)*x(1)*f_ad(2) + x(1)*e_ad
    p_ad(i_mu) = p_ad(i_mu) + p(i_b_0)*b_ad
    p_ad(i_b_0) = p_ad(i_b_0) + p(i_mu)*b_ad
    p_ad(i_e_n) = p_ad(i_e_n) - e**3*f_ad(1)
    p_ad(i_c) = p_ad(i_c) - x(1)*f_ad(1)
    p_ad(i_gamma) = p_ad(i_gamma) + (b*x(1) + x(2))*f_ad(1)
    p_ad(i_r) = p_ad(i_r) - x(2)*f_ad(2)
    p_ad(i_alpha) = p_ad(i_alpha) - b*x(1)*f_ad(2)
  end subroutine forward_ad

end module pybridge_recharge_oscillator
