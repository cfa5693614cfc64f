! SPDX-License-Identifier: MIT
!> The two-scale Lorenz-96 model (Lorenz 1996, eqs. 2 and 3): slow variables x_k on a ring, each
!> coupled to J fast ones u, which form one ring of their own:
!>
!>     dx_k/dt = x_{k-1} (x_{k+1} - x_{k-2}) - x_k + F - (h c/b) sum_j u_{j,k}
!>     du_m/dt = c b u_{m+1} (u_{m-1} - u_{m+2}) - c u_m + (h c/b) x_{k(m)}
!>
!> The one-scale model, which lacks the fast variables, has a real model error against it.
module pybridge_two_scale_lorenz96
  use pybridge_kinds, only: rk
  use pybridge_ring_advection, only: ring_advection, ring_advection_ad, ring_advection_tl
  use pybridge_tendency, only: tendency_term
  implicit none
  private
  public :: two_scale_lorenz96_tendency, new_two_scale_lorenz96_tendency

  !> State: x(n_slow), then u(n_fast, n_slow). Parameters: (F, h, b, c)
  type, extends(tendency_term) :: two_scale_lorenz96_tendency
    !> Slow variables
    integer :: n_slow = 0
    !> Fast variables to each slow one
    integer :: n_fast = 0
  contains
    procedure :: forward
    procedure :: forward_tl
    procedure :: forward_ad
  end type two_scale_lorenz96_tendency

contains

  !> Make the tendency. Sizes for which no ring exists are for callers to refuse.
  pure function new_two_scale_lorenz96_tendency(n_slow, n_fast, forcing, h, b, c) result(tendency)
    !> Number of slow variables, at least 4
    integer, intent(in) :: n_slow
    !> Number of fast variables to each slow one, n_slow*n_fast at least 4
    integer, intent(in) :: n_fast
    !> Forcing F
    real(rk), intent(in) :: forcing
    !> Coupling strength
    real(rk), intent(in) :: h
    !> Amplitude ratio of slow to fast variables
    real(rk), intent(in) :: b
    !> Time-scale ratio of slow to fast variables
    real(rk), intent(in) :: c
    type(two_scale_lorenz96_tendency) :: tendency

    tendency%n_slow = n_slow
    tendency%n_fast = n_fast
    tendency%n = n_slow*(1 + n_fast)
    tendency%n_parameters = 4
    allocate (tendency%parameters, source=[forcing, h, b, c])
  end function new_two_scale_lorenz96_tendency

  subroutine forward(self, t, p, x, f, linearisation, work)
    class(two_scale_lorenz96_tendency), intent(in) :: self
    real(rk), intent(in) :: t
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n)
    real(rk), intent(out) :: f(self%n)
    real(rk), intent(inout) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: work(self%n_work)

    integer :: i, k, m, n_fast_all
    real(rk) :: b, c, coupling, fast

    associate (unused_t => t, unused_record => linearisation, unused_work => work)
    end associate
    b = p(3)
    c = p(4)
    coupling = p(2)*c/b
    n_fast_all = self%n_slow*self%n_fast
    call ring_advection(self%n_slow, 1, x(1:self%n_slow), f(1:self%n_slow))
    call ring_advection(n_fast_all, -1, x(self%n_slow + 1:), f(self%n_slow + 1:))
    do k = 1, self%n_slow
      fast = 0.0_rk
      do i = 1, self%n_fast
        m = self%n_slow + (k - 1)*self%n_fast + i
        fast = fast + x(m)
        f(m) = c*b*f(m) - c*x(m) + coupling*x(k)
      end do
      f(k) = f(k) - x(k) + p(1) - coupling*fast
    end do
  end subroutine forward

  subroutine forward_tl(self, t, p, x, linearisation, dx, df, work, dp)
    class(two_scale_lorenz96_tendency), intent(in) :: self
    real(rk), intent(in) :: t
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(in) :: dx(self%n)
    real(rk), intent(out) :: df(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    real(rk), intent(in), optional :: dp(self%n_parameters)

    integer :: i, k, m, n_fast_all
    real(rk) :: b, c, coupling, fast, db, dc, dcoupling

    associate (unused_t => t, unused_record => linearisation, unused_work => work)
    end associate
    b = p(3)
    c = p(4)
    coupling = p(2)*c/b
    n_fast_all = self%n_slow*self%n_fast
    call ring_advection_tl(self%n_slow, 1, x(1:self%n_slow), dx(1:self%n_slow), df(1:self%n_slow))
    call ring_advection_tl(n_fast_all, -1, x(self%n_slow + 1:), dx(self%n_slow + 1:), &
      & df(self%n_slow + 1:))
    do k = 1, self%n_slow
      fast = 0.0_rk
      do i = 1, self%n_fast
        m = self%n_slow + (k - 1)*self%n_fast + i
        fast = fast + dx(m)
        df(m) = c*b*df(m) - c*dx(m) + coupling*dx(k)
      end do
      df(k) = df(k) - dx(k) - coupling*fast
    end do
    if (.not. present(dp)) return
    db = dp(3)
    dc = dp(4)
    dcoupling = dp(2)*c/b + p(2)*dc/b - coupling*db/b
    do k = 1, self%n_slow
      fast = 0.0_rk
      do i = 1, self%n_fast
        m = (k - 1)*self%n_fast + i
        fast = fast + x(self%n_slow + m)
        df(self%n_slow + m) = df(self%n_slow + m) - dc*x(self%n_slow + m) + dcoupling*x(k) &
          & + (dc*b + c*db)*fast_advection(n_fast_all, x(self%n_slow + 1:), m)
      end do
      df(k) = df(k) + dp(1) - dcoupling*fast
    end do
  end subroutine forward_tl

  subroutine forward_ad(self, t, p, x, linearisation, f_ad, x_ad, work, p_ad)
    class(two_scale_lorenz96_tendency), intent(in) :: self
    real(rk), intent(in) :: t
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(in) :: f_ad(self%n)
    real(rk), intent(inout) :: x_ad(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    integer :: i, k, m, n_fast_all
    real(rk) :: b, c, coupling, fast, fast_ad, coupling_ad, cb_ad, c_ad

    associate (unused_t => t, unused_record => linearisation, unused_work => work)
    end associate
    b = p(3)
    c = p(4)
    coupling = p(2)*c/b
    n_fast_all = self%n_slow*self%n_fast
    call ring_advection_ad(self%n_slow, 1, 1.0_rk, x(1:self%n_slow), f_ad(1:self%n_slow), &
      & x_ad(1:self%n_slow))
    call ring_advection_ad(n_fast_all, -1, c*b, x(self%n_slow + 1:), f_ad(self%n_slow + 1:), &
      & x_ad(self%n_slow + 1:))
    do k = 1, self%n_slow
      fast_ad = 0.0_rk
      do i = 1, self%n_fast
        m = self%n_slow + (k - 1)*self%n_fast + i
        fast_ad = fast_ad + f_ad(m)
        x_ad(m) = x_ad(m) - c*f_ad(m) - coupling*f_ad(k)
      end do
      x_ad(k) = x_ad(k) - f_ad(k) + coupling*fast_ad
    end do
    if (.not. present(p_ad)) return
    coupling_ad = 0.0_rk
    cb_ad = 0.0_rk
    c_ad = 0.0_rk
    do k = 1, self%n_slow
      fast = 0.0_rk
      do i = 1, self%n_fast
        m = (k - 1)*self%n_fast + i
        fast = fast + x(self%n_slow + m)
        c_ad = c_ad - x(self%n_slow + m)*f_ad(self%n_slow + m)
        coupling_ad = coupling_ad + x(k)*f_ad(self%n_slow + m)
        cb_ad = cb_ad + fast_advection(n_fast_all, x(self%n_slow + 1:), m)*f_ad(self%n_slow + m)
      end do
      p_ad(1) = p_ad(1) + f_ad(k)
      coupling_ad = coupling_ad - fast*f_ad(k)
    end do
    p_ad(2) = p_ad(2) + c/b*coupling_ad
    p_ad(3) = p_ad(3) + c*cb_ad - coupling/b*coupling_ad
    p_ad(4) = p_ad(4) + b*cb_ad + p(2)/b*coupling_ad + c_ad
  end subroutine forward_ad

  !> The fast ring's advection term at one point.
  pure function fast_advection(n, u, m) result(term)
    integer, intent(in) :: n
    real(rk), intent(in) :: u(n)
    integer, intent(in) :: m
    real(rk) :: term

    term = u(modulo(m, n) + 1)*(u(modulo(m - 2, n) + 1) - u(modulo(m + 1, n) + 1))
  end function fast_advection

end module pybridge_two_scale_lorenz96
