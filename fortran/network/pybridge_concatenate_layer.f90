! SPDX-License-Identifier: MIT
!> Concatenate, along any axis.
module pybridge_concatenate_layer
  use pybridge_kinds, only: i8, rk
  use pybridge_layer, only: check_counts, layer, layer_config, n_values, reject, tensor_shape
  use pybridge_status, only: status_ok
  implicit none
  private
  public :: concatenate_layer, new_concatenate_layer

  type, extends(layer) :: concatenate_layer
    !> Contiguous pieces that each input is cut into: the product of the axes before
    integer :: n_pieces = 0
    !> Length of each input's pieces
    integer, allocatable :: lengths(:)
  contains
    procedure :: forward
    procedure :: forward_tl
    procedure :: forward_ad
  end type concatenate_layer

contains

  !> Build the layer. Settings: integer 1, the axis, counted from one without the batch.
  subroutine new_concatenate_layer(config, inputs, new, outputs, status, message)
    type(layer_config), intent(in) :: config
    type(tensor_shape), intent(in) :: inputs(:)
    class(layer), allocatable, intent(out) :: new
    type(tensor_shape), allocatable, intent(out) :: outputs(:)
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    type(concatenate_layer) :: made
    integer :: axis, i, rank
    integer(i8) :: total

    call check_counts(config, inputs, -1, 1, 0, 0, 0, status, message)
    if (status /= status_ok) return
    axis = config%integers(1)
    rank = size(inputs(1)%dims)
    if (axis < 1 .or. axis > rank) then
      call reject(config, "its axis is out of range", status, message)
      return
    end if
    allocate (outputs(1))
    outputs(1) = inputs(1)
    total = inputs(1)%dims(axis)
    do i = 2, size(inputs)
      if (size(inputs(i)%dims) /= rank) then
        call reject(config, "its inputs differ in rank", status, message)
        return
      end if
      if (any(inputs(i)%dims(:axis - 1) /= inputs(1)%dims(:axis - 1)) &
        & .or. any(inputs(i)%dims(axis + 1:) /= inputs(1)%dims(axis + 1:))) then
        call reject(config, "its inputs differ in shape beside the axis", status, message)
        return
      end if
      total = total + inputs(i)%dims(axis)
    end do
    outputs(1)%dims(axis) = int(min(total, int(huge(1), i8)))
    made%n_out = n_values(outputs(1))
    if (made%n_out < 0) then
      call reject(config, "its output is too large", status, message)
      return
    end if
    made%n_in = made%n_out
    made%n_pieces = product(inputs(1)%dims(:axis - 1))
    made%lengths = [(n_values(inputs(i))/made%n_pieces, i=1, size(inputs))]
    allocate (new, source=made)
  end subroutine new_concatenate_layer

  subroutine forward(self, nb, p, x, y, record, work)
    class(concatenate_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(out) :: y(self%n_out, nb)
    real(rk), intent(out) :: record(self%n_record, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)

    associate (unused_p => p, unused_work => work)
    end associate
    record = 0.0_rk
    call join(self, nb, x, y)
  end subroutine forward

  subroutine forward_tl(self, nb, p, x, record, dx, dy, work, dp)
    class(concatenate_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(in) :: record(self%n_record, nb)
    real(rk), intent(in) :: dx(self%n_in, nb)
    real(rk), intent(out) :: dy(self%n_out, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)
    real(rk), intent(in), optional :: dp(self%n_parameters)

    associate (unused_p => p, unused_x => x, unused_record => record, unused_work => work)
    end associate
    if (present(dp)) continue
    call join(self, nb, dx, dy)
  end subroutine forward_tl

  subroutine forward_ad(self, nb, p, x, record, y_ad, x_ad, work, p_ad)
    class(concatenate_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(in) :: record(self%n_record, nb)
    real(rk), intent(inout) :: y_ad(self%n_out, nb)
    real(rk), intent(inout) :: x_ad(self%n_in, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    associate (unused_p => p, unused_x => x, unused_record => record, unused_work => work)
    end associate
    if (present(p_ad)) continue
    call join_ad(self, nb, y_ad, x_ad)
  end subroutine forward_ad

  !> Put the inputs, which lie one after the other, together.
  pure subroutine join(self, nb, x, y)
    class(concatenate_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: x(self%n_in*nb)
    real(rk), intent(out) :: y(self%n_out*nb)

    integer :: i, j, n, source, target

    source = 0
    target = 0
    do i = 1, size(self%lengths)
      n = self%lengths(i)
      do j = 0, self%n_pieces*nb - 1
        y(target + j*(self%n_out/self%n_pieces) + 1:target + j*(self%n_out/self%n_pieces) + n) &
          & = x(source + 1:source + n)
        source = source + n
      end do
      target = target + n
    end do
  end subroutine join

  !> The adjoint of `join`.
  pure subroutine join_ad(self, nb, y_ad, x_ad)
    class(concatenate_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: y_ad(self%n_out*nb)
    real(rk), intent(inout) :: x_ad(self%n_in*nb)

    integer :: i, j, n, source, target

    source = 0
    target = 0
    do i = 1, size(self%lengths)
      n = self%lengths(i)
      do j = 0, self%n_pieces*nb - 1
        x_ad(source + 1:source + n) = x_ad(source + 1:source + n) &
          & + y_ad(target + j*(self%n_out/self%n_pieces) + 1:target &
          & + j*(self%n_out/self%n_pieces) + n)
        source = source + n
      end do
      target = target + n
    end do
  end subroutine join_ad

end module pybridge_concatenate_layer
