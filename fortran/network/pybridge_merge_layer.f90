! SPDX-License-Identifier: MIT
!> Layers that combine several inputs of one shape value by value: Add, Subtract, Multiply, Average,
!> Maximum, Minimum.
module pybridge_merge_layer
  use, intrinsic :: ieee_arithmetic, only: ieee_is_nan
  use pybridge_kinds, only: rk
  use pybridge_layer, only: check_counts, layer, layer_config, n_values, reject, same_shape, &
    & tensor_shape
  use pybridge_status, only: status_ok, status_unsupported
  implicit none
  private
  public :: merge_layer, new_merge_layer

  integer, parameter :: add = 1
  integer, parameter :: subtract = 2
  integer, parameter :: multiply = 3
  integer, parameter :: average = 4
  integer, parameter :: maximum = 5
  integer, parameter :: minimum = 6
  !> Names of the operations, in the order of their numbers
  character(len=8), parameter :: operations(6) = &
    & ["add     ", "subtract", "multiply", "average ", "maximum ", "minimum "]

  type, extends(layer) :: merge_layer
    !> The operation
    integer :: operation = 0
    integer :: n_inputs = 0
  contains
    procedure :: forward
    procedure :: forward_tl
    procedure :: forward_ad
  end type merge_layer

contains

  !> Build the layer. Settings: text 1, the operation.
  subroutine new_merge_layer(config, inputs, new, outputs, status, message)
    type(layer_config), intent(in) :: config
    type(tensor_shape), intent(in) :: inputs(:)
    class(layer), allocatable, intent(out) :: new
    type(tensor_shape), allocatable, intent(out) :: outputs(:)
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    type(merge_layer) :: made
    integer :: i

    call check_counts(config, inputs, -1, 0, 1, 0, 0, status, message)
    if (status /= status_ok) return
    do i = 1, size(operations)
      if (trim(operations(i)) == config%texts(1)%text) made%operation = i
    end do
    if (made%operation == 0) then
      call reject(config, "operation '" // config%texts(1)%text // "' is not supported", status, &
        & message, status_unsupported)
      return
    end if
    if (made%operation == subtract .and. size(inputs) /= 2) then
      call reject(config, "needs two inputs", status, message)
      return
    end if
    do i = 2, size(inputs)
      if (same_shape(inputs(i), inputs(1))) cycle
      call reject(config, "inputs of different shapes are not supported", status, message, &
        & status_unsupported)
      return
    end do
    made%n_inputs = size(inputs)
    made%n_out = n_values(inputs(1))
    if (made%n_out > huge(1)/made%n_inputs) then
      call reject(config, "its inputs are too large", status, message)
      return
    end if
    made%n_in = made%n_out*made%n_inputs
    select case (made%operation)
    case (multiply, maximum, minimum)
      made%n_record = made%n_in
    case default
      made%n_record = 0
    end select
    allocate (outputs(1))
    outputs(1) = inputs(1)
    allocate (new, source=made)
  end subroutine new_merge_layer

  subroutine forward(self, nb, p, x, y, record, work)
    class(merge_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(out) :: y(self%n_out, nb)
    real(rk), intent(out) :: record(self%n_record, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)

    associate (unused_p => p, unused_work => work)
    end associate
    call merge_values(self, self%n_out*nb, x, y, record)
  end subroutine forward

  subroutine forward_tl(self, nb, p, x, record, dx, dy, work, dp)
    class(merge_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(in) :: record(self%n_record, nb)
    real(rk), intent(in) :: dx(self%n_in, nb)
    real(rk), intent(out) :: dy(self%n_out, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)
    real(rk), intent(in), optional :: dp(self%n_parameters)

    associate (unused_p => p, unused_x => x, unused_work => work)
    end associate
    if (present(dp)) continue
    call merge_values_tl(self, self%n_out*nb, record, dx, dy)
  end subroutine forward_tl

  subroutine forward_ad(self, nb, p, x, record, y_ad, x_ad, work, p_ad)
    class(merge_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(in) :: record(self%n_record, nb)
    real(rk), intent(inout) :: y_ad(self%n_out, nb)
    real(rk), intent(inout) :: x_ad(self%n_in, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    associate (unused_p => p, unused_x => x, unused_work => work)
    end associate
    if (present(p_ad)) continue
    call merge_values_ad(self, self%n_out*nb, record, y_ad, x_ad)
  end subroutine forward_ad

  !> `forward`, with the inputs as columns.
  pure subroutine merge_values(self, n, x, y, record)
    class(merge_layer), intent(in) :: self
    integer, intent(in) :: n
    real(rk), intent(in) :: x(n, self%n_inputs)
    real(rk), intent(out) :: y(n)
    !> Derivative with respect to each input, where it is not constant
    real(rk), intent(out) :: record(n, min(self%n_inputs, self%n_record))

    integer :: i, k, winner

    select case (self%operation)
    case (add, average)
      y = x(:, 1)
      do k = 2, self%n_inputs
        y = y + x(:, k)
      end do
      if (self%operation == average) y = y/real(self%n_inputs, rk)
    case (subtract)
      y = x(:, 1) - x(:, 2)
    case (multiply)
      ! Each input's derivative is the product of the others: those before it, then those after
      y = 1.0_rk
      do k = 1, self%n_inputs
        record(:, k) = y
        y = y*x(:, k)
      end do
      y = 1.0_rk
      do k = self%n_inputs, 1, -1
        record(:, k) = record(:, k)*y
        y = y*x(:, k)
      end do
      y = x(:, 1)
      do k = 2, self%n_inputs
        y = y*x(:, k)
      end do
    case default ! maximum, minimum
      record = 0.0_rk
      do i = 1, n
        winner = 1
        do k = 2, self%n_inputs
          if (self%operation == maximum .and. x(i, k) > x(i, winner)) winner = k
          if (self%operation == minimum .and. x(i, k) < x(i, winner)) winner = k
        end do
        record(i, winner) = 1.0_rk
        y(i) = x(i, winner)
        ! NaN in any input is NaN in the result
        do k = 1, self%n_inputs
          if (ieee_is_nan(x(i, k))) y(i) = x(i, k)
        end do
      end do
    end select
  end subroutine merge_values

  pure subroutine merge_values_tl(self, n, record, dx, dy)
    class(merge_layer), intent(in) :: self
    integer, intent(in) :: n
    real(rk), intent(in) :: record(n, min(self%n_inputs, self%n_record))
    real(rk), intent(in) :: dx(n, self%n_inputs)
    real(rk), intent(out) :: dy(n)

    integer :: k

    select case (self%operation)
    case (add, average)
      dy = dx(:, 1)
      do k = 2, self%n_inputs
        dy = dy + dx(:, k)
      end do
      if (self%operation == average) dy = dy/real(self%n_inputs, rk)
    case (subtract)
      dy = dx(:, 1) - dx(:, 2)
    case default
      dy = record(:, 1)*dx(:, 1)
      do k = 2, self%n_inputs
        dy = dy + record(:, k)*dx(:, k)
      end do
    end select
  end subroutine merge_values_tl

  pure subroutine merge_values_ad(self, n, record, y_ad, x_ad)
    class(merge_layer), intent(in) :: self
    integer, intent(in) :: n
    real(rk), intent(in) :: record(n, min(self%n_inputs, self%n_record))
    real(rk), intent(in) :: y_ad(n)
    real(rk), intent(inout) :: x_ad(n, self%n_inputs)

    integer :: k

    select case (self%operation)
    case (add)
      do k = 1, self%n_inputs
        x_ad(:, k) = x_ad(:, k) + y_ad
      end do
    case (average)
      do k = 1, self%n_inputs
        x_ad(:, k) = x_ad(:, k) + y_ad/real(self%n_inputs, rk)
      end do
    case (subtract)
      x_ad(:, 1) = x_ad(:, 1) + y_ad
      x_ad(:, 2) = x_ad(:, 2) - y_ad
    case default
      do k = 1, self%n_inputs
        x_ad(:, k) = x_ad(:, k) + record(:, k)*y_ad
      end do
    end select
  end subroutine merge_values_ad

end module pybridge_merge_layer
