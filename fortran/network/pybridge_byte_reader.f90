! SPDX-License-Identifier: MIT
!> Reads little-endian numbers and texts from bytes in memory, on any machine, and never beyond the
!> end: a read that does not fit sets `failed`, gives zeros, and all later reads fail too.
module pybridge_byte_reader
  use pybridge_kinds, only: i1, i4, i8, rk, sk
  implicit none
  private
  public :: byte_reader, crc32

  type :: byte_reader
    !> Bytes read so far
    integer(i8) :: position = 0
    !> A read went beyond the end, or found a value out of range
    logical :: failed = .false.
  contains
    procedure :: fits
    procedure :: take_i4
    procedure :: take_i8
    procedure :: take_count
    procedure :: take_text
    procedure :: take_reals
    procedure :: take_integers
  end type byte_reader

contains

  !> Whether so many elements of so many bytes are left; if not, the reader has failed.
  pure subroutine require(self, bytes, n, element_size)
    class(byte_reader), intent(inout) :: self
    integer(i1), intent(in) :: bytes(:)
    integer(i8), intent(in) :: n
    integer, intent(in) :: element_size

    if (.not. self%fits(bytes, n, element_size)) self%failed = .true.
  end subroutine require

  pure function fits(self, bytes, n, element_size) result(answer)
    class(byte_reader), intent(in) :: self
    integer(i1), intent(in) :: bytes(:)
    !> Number of elements
    integer(i8), intent(in) :: n
    !> Bytes of each
    integer, intent(in) :: element_size
    logical :: answer

    ! A division, because the product could overflow
    answer = .not. self%failed .and. n >= 0 &
      & .and. n <= (size(bytes, kind=i8) - self%position)/element_size
  end function fits

  !> The next integer of four bytes.
  pure subroutine take_i4(self, bytes, value)
    class(byte_reader), intent(inout) :: self
    integer(i1), intent(in) :: bytes(:)
    integer(i4), intent(out) :: value

    integer :: i

    value = 0
    call require(self, bytes, 1_i8, 4)
    if (self%failed) return
    do i = 4, 1, -1
      value = ior(shiftl(value, 8), iand(int(bytes(self%position + i), i4), 255_i4))
    end do
    self%position = self%position + 4
  end subroutine take_i4

  !> The next integer of eight bytes.
  pure subroutine take_i8(self, bytes, value)
    class(byte_reader), intent(inout) :: self
    integer(i1), intent(in) :: bytes(:)
    integer(i8), intent(out) :: value

    integer :: i

    value = 0
    call require(self, bytes, 1_i8, 8)
    if (self%failed) return
    do i = 8, 1, -1
      value = ior(shiftl(value, 8), iand(int(bytes(self%position + i), i8), 255_i8))
    end do
    self%position = self%position + 8
  end subroutine take_i8

  !> The next integer of four bytes, as a count of elements which must all still be there.
  pure subroutine take_count(self, bytes, element_size, n)
    class(byte_reader), intent(inout) :: self
    integer(i1), intent(in) :: bytes(:)
    !> Least number of bytes of an element
    integer, intent(in) :: element_size
    integer, intent(out) :: n

    call self%take_i4(bytes, n)
    call require(self, bytes, int(n, i8), element_size)
    if (self%failed) n = 0
  end subroutine take_count

  !> The next text: a count of bytes, and the bytes.
  pure subroutine take_text(self, bytes, text)
    class(byte_reader), intent(inout) :: self
    integer(i1), intent(in) :: bytes(:)
    character(len=:), allocatable, intent(out) :: text

    integer :: i, n

    call self%take_count(bytes, 1, n)
    allocate (character(len=n) :: text)
    do i = 1, n
      text(i:i) = achar(iand(int(bytes(self%position + i)), 255))
    end do
    self%position = self%position + n
  end subroutine take_text

  !> The next integers of four bytes each.
  pure subroutine take_integers(self, bytes, n, values)
    class(byte_reader), intent(inout) :: self
    integer(i1), intent(in) :: bytes(:)
    integer, intent(in) :: n
    integer, allocatable, intent(out) :: values(:)

    integer :: i

    call require(self, bytes, int(n, i8), 4)
    if (self%failed) then
      allocate (values(0))
      return
    end if
    allocate (values(n))
    do i = 1, n
      call self%take_i4(bytes, values(i))
    end do
  end subroutine take_integers

  !> The next reals, of four or eight bytes each; those of four are widened, which is exact.
  pure subroutine take_reals(self, bytes, precision, values)
    class(byte_reader), intent(inout) :: self
    integer(i1), intent(in) :: bytes(:)
    !> Bytes of a number: 4 or 8
    integer, intent(in) :: precision
    real(rk), intent(out) :: values(:)

    integer :: i
    integer(i4) :: single
    integer(i8) :: double

    values = 0.0_rk
    call require(self, bytes, size(values, kind=i8), precision)
    if (self%failed) return
    do i = 1, size(values)
      if (precision == 4) then
        call self%take_i4(bytes, single)
        values(i) = real(transfer(single, 0.0_sk), rk)
      else
        call self%take_i8(bytes, double)
        values(i) = transfer(double, 0.0_rk)
      end if
    end do
  end subroutine take_reals

  !> The checksum of zlib, PNG and Ethernet, CRC-32/ISO-HDLC.
  pure function crc32(bytes) result(checksum)
    integer(i1), intent(in) :: bytes(:)
    integer(i4) :: checksum

    integer(i4), parameter :: polynomial = -306674912_i4
    integer(i4) :: table(0:255)
    integer(i4) :: c
    integer :: bit, i
    integer(i8) :: j

    do i = 0, 255
      c = int(i, i4)
      do bit = 1, 8
        if (btest(c, 0)) then
          c = ieor(shiftr(c, 1), polynomial)
        else
          c = shiftr(c, 1)
        end if
      end do
      table(i) = c
    end do
    checksum = not(0_i4)
    do j = 1, size(bytes, kind=i8)
      i = int(iand(ieor(checksum, int(bytes(j), i4)), 255_i4))
      checksum = ieor(shiftr(checksum, 8), table(i))
    end do
    checksum = not(checksum)
  end function crc32

end module pybridge_byte_reader
