! SPDX-License-Identifier: MIT
!> The one-scale Lorenz-96 model on a ring of n points (Lorenz 1996, eq. 1):
!>
!>     dx_i/dt = (x_{i+1} - x_{i-2}) x_{i-1} - x_i + F
module pybridge_lorenz96
  use pybridge_kinds, only: rk
  use pybridge_tendency, only: tendency_term
  implicit none
  private
  public :: lorenz96_tendency, new_lorenz96_tendency

  !> Parameters: (1) the forcing F
  type, extends(tendency_term) :: lorenz96_tendency
  contains
    procedure :: forward
    procedure :: forward_tl
    procedure :: forward_ad
  end type lorenz96_tendency

contains

  !> Make the tendency. A size below four has no such ring: callers check it first.
  pure function new_lorenz96_tendency(n, forcing) result(tendency)
    !> Number of points, at least 4
    integer, intent(in) :: n
    !> Forcing F
    real(rk), intent(in) :: forcing
    type(lorenz96_tendency) :: tendency

    tendency%n = n
    tendency%n_parameters = 1
    allocate (tendency%parameters, source=[forcing])
  end function new_lorenz96_tendency

  subroutine forward(self, t, p, x, f, linearisation, work)
    class(lorenz96_tendency), intent(in) :: self
    real(rk), intent(in) :: t
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n)
    real(rk), intent(out) :: f(self%n)
    real(rk), intent(inout) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: work(self%n_work)

    integer :: i, n
    real(rk) :: forcing

    associate (unused_t => t, unused_record => linearisation, unused_work => work)
    end associate
    n = self%n
    forcing = p(1)
    f(1) = (x(2) - x(n - 1))*x(n) - x(1) + forcing
    f(2) = (x(3) - x(n))*x(1) - x(2) + forcing
    do i = 3, n - 1
      f(i) = (x(i + 1) - x(i - 2))*x(i - 1) - x(i) + forcing
    end do
    f(n) = (x(1) - x(n - 2))*x(n - 1) - x(n) + forcing
  end subroutine forward

  subroutine forward_tl(self, t, p, x, linearisation, dx, df, work, dp)
    class(lorenz96_tendency), intent(in) :: self
    real(rk), intent(in) :: t
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(in) :: dx(self%n)
    real(rk), intent(out) :: df(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    real(rk), intent(in), optional :: dp(self%n_parameters)

    integer :: i, n
    real(rk) :: forcing

    associate (unused_t => t, unused_p => p, unused_record => linearisation, unused_work => work)
    end associate
    n = self%n
    forcing = 0.0_rk
    if (present(dp)) forcing = dp(1)
    df(1) = (dx(2) - dx(n - 1))*x(n) + (x(2) - x(n - 1))*dx(n) - dx(1) + forcing
    df(2) = (dx(3) - dx(n))*x(1) + (x(3) - x(n))*dx(1) - dx(2) + forcing
    do i = 3, n - 1
      df(i) = (dx(i + 1) - dx(i - 2))*x(i - 1) + (x(i + 1) - x(i - 2))*dx(i - 1) - dx(i) + forcing
    end do
    df(n) = (dx(1) - dx(n - 2))*x(n - 1) + (x(1) - x(n - 2))*dx(n - 1) - dx(n) + forcing
  end subroutine forward_tl

  subroutine forward_ad(self, t, p, x, linearisation, f_ad, x_ad, work, p_ad)
    class(lorenz96_tendency), intent(in) :: self
    real(rk), intent(in) :: t
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(in) :: f_ad(self%n)
    real(rk), intent(inout) :: x_ad(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    integer :: i, n
    real(rk) :: forcing_ad

    associate (unused_t => t, unused_p => p, unused_record => linearisation, unused_work => work)
    end associate
    ! Gathered by the point that receives, so that the loop runs without conflicts:
    ! x_j enters the tendencies j-1 (as x_{i+1}), j+2 (as x_{i-2}), j+1 (as x_{i-1}) and j.
    n = self%n
    call receive(1, n, n - 1, 2, 3)
    call receive(2, 1, n, 3, 4)
    do i = 3, n - 2
      x_ad(i) = x_ad(i) + x(i - 2)*f_ad(i - 1) - x(i + 1)*f_ad(i + 2) &
        & + (x(i + 2) - x(i - 1))*f_ad(i + 1) - f_ad(i)
    end do
    call receive(n - 1, n - 2, n - 3, n, 1)
    call receive(n, n - 1, n - 2, 1, 2)
    if (.not. present(p_ad)) return
    forcing_ad = 0.0_rk
    !$omp simd reduction(+:forcing_ad)
    do i = 1, n
      forcing_ad = forcing_ad + f_ad(i)
    end do
    p_ad(1) = p_ad(1) + forcing_ad

  contains

    !> The adjoint at point j, whose neighbours are given by their numbers.
    subroutine receive(j, j_minus_1, j_minus_2, j_plus_1, j_plus_2)
      integer, intent(in) :: j, j_minus_1, j_minus_2, j_plus_1, j_plus_2

      x_ad(j) = x_ad(j) + x(j_minus_2)*f_ad(j_minus_1) - x(j_plus_1)*f_ad(j_plus_2) &
        & + (x(j_plus_2) - x(j_minus_1))*f_ad(j_plus_1) - f_ad(j)
    end subroutine receive

  end subroutine forward_ad

end module pybridge_lorenz96
