! SPDX-License-Identifier: MIT
!> Lorenz's advection on a ring, in either direction, with its tangent linear and adjoint:
!>
!>     f_i = x_{i-s} (x_{i+s} - x_{i-2s}),    s = +1 or -1
module pybridge_ring_advection
  use pybridge_kinds, only: rk
  implicit none
  private
  public :: ring_advection, ring_advection_tl, ring_advection_ad

contains

  pure subroutine ring_advection(n, s, x, f)
    !> Points on the ring, at least 4
    integer, intent(in) :: n
    !> Direction, +1 or -1
    integer, intent(in) :: s
    real(rk), intent(in) :: x(n)
    real(rk), intent(out) :: f(n)

    integer :: i

    do i = 1, 2
      f(i) = at(i)
    end do
    do i = 3, n - 2
      f(i) = x(i - s)*(x(i + s) - x(i - 2*s))
    end do
    do i = n - 1, n
      f(i) = at(i)
    end do

  contains

    pure function at(i)
      integer, intent(in) :: i
      real(rk) :: at

      at = x(wrap(i - s, n))*(x(wrap(i + s, n)) - x(wrap(i - 2*s, n)))
    end function at

  end subroutine ring_advection

  pure subroutine ring_advection_tl(n, s, x, dx, df)
    integer, intent(in) :: n
    integer, intent(in) :: s
    real(rk), intent(in) :: x(n)
    real(rk), intent(in) :: dx(n)
    real(rk), intent(out) :: df(n)

    integer :: i

    do i = 1, 2
      df(i) = at(i)
    end do
    do i = 3, n - 2
      df(i) = dx(i - s)*(x(i + s) - x(i - 2*s)) + x(i - s)*(dx(i + s) - dx(i - 2*s))
    end do
    do i = n - 1, n
      df(i) = at(i)
    end do

  contains

    pure function at(i)
      integer, intent(in) :: i
      real(rk) :: at

      at = dx(wrap(i - s, n))*(x(wrap(i + s, n)) - x(wrap(i - 2*s, n))) &
        & + x(wrap(i - s, n))*(dx(wrap(i + s, n)) - dx(wrap(i - 2*s, n)))
    end function at

  end subroutine ring_advection_tl

  !> Adjoint, accumulating, of `factor` times the advection.
  pure subroutine ring_advection_ad(n, s, factor, x, f_ad, x_ad)
    integer, intent(in) :: n
    integer, intent(in) :: s
    !> Factor that the advection was multiplied with
    real(rk), intent(in) :: factor
    real(rk), intent(in) :: x(n)
    real(rk), intent(in) :: f_ad(n)
    real(rk), intent(inout) :: x_ad(n)

    integer :: i

    ! Gathered by the point that receives: x_i enters f_{i+s}, f_{i-s} and f_{i+2s}
    do i = 1, 2
      x_ad(i) = x_ad(i) + factor*received(i)
    end do
    do i = 3, n - 2
      x_ad(i) = x_ad(i) + factor*((x(i + 2*s) - x(i - s))*f_ad(i + s) + x(i - 2*s)*f_ad(i - s) &
        & - x(i + s)*f_ad(i + 2*s))
    end do
    do i = n - 1, n
      x_ad(i) = x_ad(i) + factor*received(i)
    end do

  contains

    pure function received(i)
      integer, intent(in) :: i
      real(rk) :: received

      received = (x(wrap(i + 2*s, n)) - x(wrap(i - s, n)))*f_ad(wrap(i + s, n)) &
        & + x(wrap(i - 2*s, n))*f_ad(wrap(i - s, n)) - x(wrap(i + s, n))*f_ad(wrap(i + 2*s, n))
    end function received

  end subroutine ring_advection_ad

  !> The point of the ring that an index outside 1…n means.
  pure function wrap(i, n)
    integer, intent(in) :: i, n
    integer :: wrap

    wrap = modulo(i - 1, n) + 1
  end function wrap

end module pybridge_ring_advection
