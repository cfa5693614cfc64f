! SPDX-License-Identifier: MIT
!> Whether numbers are numbers.
module pybridge_finite
  use pybridge_kinds, only: rk
  implicit none
  private
  public :: is_bounded

contains

  !> Whether no value is NaN, infinite, or larger than a limit in magnitude.
  pure function is_bounded(n, x, limit) result(bounded)
    !> Size
    integer, intent(in) :: n
    !> Values
    real(rk), intent(in) :: x(n)
    !> Largest magnitude allowed
    real(rk), intent(in) :: limit
    logical :: bounded

    integer :: i, n_bad

    ! A count rather than `any`: without an early exit the loop is vectorised.
    n_bad = 0
    do i = 1, n
      if (.not. abs(x(i)) <= limit) n_bad = n_bad + 1
    end do
    bounded = n_bad == 0
  end function is_bounded

end module pybridge_finite
