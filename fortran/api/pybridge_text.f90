! SPDX-License-Identifier: MIT
!> Text across the C ABI.
module pybridge_text
  use, intrinsic :: iso_c_binding, only: c_char, c_int, c_null_char
  use pybridge_status, only: describe_status
  implicit none
  private
  public :: put_status, put_text

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

  !> Write the sentence for a status code.
  pure subroutine put_status(status, buffer, length)
    integer, intent(in) :: status
    integer(c_int), intent(in) :: length
    character(kind=c_char), intent(inout) :: buffer(*)

    character(len=:), allocatable :: text

    call describe_status(status, text)
    call put_text(text, buffer, length)
  end subroutine put_status

end module pybridge_text
