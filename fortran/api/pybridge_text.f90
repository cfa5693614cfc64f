! SPDX-License-Identifier: MIT
!> Text across the C ABI.
module pybridge_text
  use, intrinsic :: iso_c_binding, only: c_char, c_int, c_null_char
  implicit none
  private
  public :: put_text, get_text

contains

  !> Write a text into a caller's buffer of C characters: cut where it is too long, and always
  !> ended by a null character. A buffer of no length takes nothing.
  pure subroutine put_text(text, buffer, length)
    character(len=*), intent(in) :: text
    !> Size of the buffer
    integer(c_int), intent(in) :: length
    character(kind=c_char), intent(inout) :: buffer(*)

    integer :: i, n

    if (length < 1) return
    n = min(len(text), length - 1)
    do i = 1, n
      buffer(i) = text(i:i)
    end do
    buffer(n + 1) = c_null_char
  end subroutine put_text

  !> A null-terminated text of C as a Fortran string.
  pure function get_text(buffer) result(text)
    character(kind=c_char), intent(in) :: buffer(*)
    character(len=:), allocatable :: text

    integer :: i, n

    n = 0
    do while (buffer(n + 1) /= c_null_char)
      n = n + 1
    end do
    allocate (character(len=n) :: text)
    do i = 1, n
      text(i:i) = buffer(i)
    end do
  end function get_text

end module pybridge_text
