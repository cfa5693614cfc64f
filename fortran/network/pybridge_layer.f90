! SPDX-License-Identifier: MIT
!> The abstract layer of a network, and what it is built from.
!>
!> A layer has one flat input and one flat output per sample. A layer with several inputs finds
!> them one after the other, each for the whole batch: (n_1, nb), then (n_2, nb), and so on; several
!> outputs likewise. Values within a sample are in Keras's C order, so the channel is fastest.
!>
!> A layer object holds its configuration only, and is `intent(in)` in its verbs: parameters,
!> record and scratch space are arguments.
module pybridge_layer
  use pybridge_kinds, only: i8, rk
  use pybridge_status, only: status_file_format, status_ok
  implicit none
  private
  public :: layer, layer_config, layer_weight, real_array, string, tensor_shape
  public :: check_counts, check_weight, n_values, reject, require_rank, same_shape

  !> A name
  type :: string
    character(len=:), allocatable :: text
  end type string

  !> The shape of one sample of a tensor, in Keras's order and without the batch
  type :: tensor_shape
    integer, allocatable :: dims(:)
  end type tensor_shape

  !> A list of constants
  type :: real_array
    real(rk), allocatable :: values(:)
  end type real_array

  !> One weight array: a part of the parameter vector
  type :: layer_weight
    character(len=:), allocatable :: name
    !> Its shape in Keras
    integer, allocatable :: dims(:)
    !> Number of values
    integer :: n = 0
  end type layer_weight

  !> What a layer is built from: one entry of a network file's table of layers.
  type :: layer_config
    !> Which layer of ours: "dense", "conv1d", …
    character(len=:), allocatable :: kind
    !> Name of the layer in Keras
    character(len=:), allocatable :: name
    !> Class of the layer in Keras
    character(len=:), allocatable :: class_name
    !> Integer settings; their meaning is the layer's
    integer, allocatable :: integers(:)
    !> Text settings
    type(string), allocatable :: texts(:)
    !> Constants
    type(real_array), allocatable :: constants(:)
    !> Shapes of its parameters
    type(layer_weight), allocatable :: weights(:)
    !> Where its parameters begin in the network's parameter vector, less one
    integer :: parameter_offset = 0
    !> Number of its parameters
    integer :: n_parameters = 0
  end type layer_config

  type, abstract :: layer
    !> Values of the input, per sample, over all inputs
    integer :: n_in = 0
    !> Values of the output, per sample, over all outputs
    integer :: n_out = 0
    !> Parameters
    integer :: n_parameters = 0
    !> Values recorded by `forward` for the derivatives, per sample
    integer :: n_record = 0
    !> Values of scratch space, per sample
    integer :: n_work = 0
    !> The output is the input, and needs no copy
    logical :: is_identity = .false.
  contains
    procedure(forward_interface), deferred :: forward
    procedure(forward_tl_interface), deferred :: forward_tl
    procedure(forward_ad_interface), deferred :: forward_ad
  end type layer

  abstract interface

    !> `y <- f(p, x)`
    subroutine forward_interface(self, nb, p, x, y, record, work)
      import :: layer, rk
      implicit none
      class(layer), intent(in) :: self
      !> Number of samples
      integer, intent(in) :: nb
      !> The layer's parameters
      real(rk), intent(in) :: p(self%n_parameters)
      real(rk), intent(in) :: x(self%n_in, nb)
      real(rk), intent(out) :: y(self%n_out, nb)
      !> What the derivatives need
      real(rk), intent(out) :: record(self%n_record, nb)
      real(rk), intent(inout) :: work(self%n_work, nb)
    end subroutine forward_interface

    !> `dy <- (df/dx) dx + (df/dp) dp`
    subroutine forward_tl_interface(self, nb, p, x, record, dx, dy, work, dp)
      import :: layer, rk
      implicit none
      class(layer), intent(in) :: self
      integer, intent(in) :: nb
      real(rk), intent(in) :: p(self%n_parameters)
      !> The input about which to linearise
      real(rk), intent(in) :: x(self%n_in, nb)
      !> What `forward` recorded
      real(rk), intent(in) :: record(self%n_record, nb)
      real(rk), intent(in) :: dx(self%n_in, nb)
      real(rk), intent(out) :: dy(self%n_out, nb)
      real(rk), intent(inout) :: work(self%n_work, nb)
      !> Absent means zero
      real(rk), intent(in), optional :: dp(self%n_parameters)
    end subroutine forward_tl_interface

    !> `x_ad <- x_ad + (df/dx)^T y_ad`, `p_ad <- p_ad + (df/dp)^T y_ad`
    subroutine forward_ad_interface(self, nb, p, x, record, y_ad, x_ad, work, p_ad)
      import :: layer, rk
      implicit none
      class(layer), intent(in) :: self
      integer, intent(in) :: nb
      real(rk), intent(in) :: p(self%n_parameters)
      real(rk), intent(in) :: x(self%n_in, nb)
      real(rk), intent(in) :: record(self%n_record, nb)
      !> May be overwritten
      real(rk), intent(inout) :: y_ad(self%n_out, nb)
      real(rk), intent(inout) :: x_ad(self%n_in, nb)
      real(rk), intent(inout) :: work(self%n_work, nb)
      !> Absent means not wanted
      real(rk), intent(inout), optional :: p_ad(self%n_parameters)
    end subroutine forward_ad_interface

  end interface

contains

  !> Values in a tensor of one sample, or -1 if a dimension is not positive or they are too many
  !> for a default integer.
  pure function n_values(shape) result(n)
    type(tensor_shape), intent(in) :: shape
    integer :: n

    integer :: i
    integer(i8) :: product

    n = -1
    product = 1
    do i = 1, size(shape%dims)
      if (shape%dims(i) < 1) return
      product = product*shape%dims(i)
      if (product > int(huge(n), i8)) return
    end do
    n = int(product)
  end function n_values

  pure function same_shape(a, b) result(same)
    type(tensor_shape), intent(in) :: a
    type(tensor_shape), intent(in) :: b
    logical :: same

    same = size(a%dims) == size(b%dims)
    if (same) same = all(a%dims == b%dims)
  end function same_shape

  !> Refuse a layer: the message names it and its class.
  pure subroutine reject(config, reason, status, message, code)
    type(layer_config), intent(in) :: config
    character(len=*), intent(in) :: reason
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message
    !> Status code, if it is not a wrong file
    integer, intent(in), optional :: code

    status = status_file_format
    if (present(code)) status = code
    message = "layer '" // config%name // "' (" // config%class_name // "): " // reason
  end subroutine reject

  !> Require the numbers of settings and inputs that a layer's constructor reads.
  pure subroutine check_counts(config, inputs, n_inputs, integers, texts, constants, weights, &
    & status, message)
    type(layer_config), intent(in) :: config
    type(tensor_shape), intent(in) :: inputs(:)
    !> Number of inputs; negative: at least two
    integer, intent(in) :: n_inputs
    integer, intent(in) :: integers
    integer, intent(in) :: texts
    integer, intent(in) :: constants
    integer, intent(in) :: weights
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    status = status_ok
    if (n_inputs >= 0 .and. size(inputs) /= n_inputs) then
      call reject(config, "wrong number of inputs", status, message)
    else if (n_inputs < 0 .and. size(inputs) < 2) then
      call reject(config, "needs two inputs or more", status, message)
    else if (size(config%integers) /= integers .or. size(config%texts) /= texts &
      & .or. size(config%constants) /= constants) then
      call reject(config, "wrong number of settings", status, message)
    else if (size(config%weights) /= weights) then
      call reject(config, "wrong number of weight arrays", status, message)
    end if
  end subroutine check_counts

  !> Require the shape of one weight array.
  pure subroutine check_weight(config, number, dims, status, message)
    type(layer_config), intent(in) :: config
    !> Number of the weight array
    integer, intent(in) :: number
    !> The shape it must have
    integer, intent(in) :: dims(:)
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    status = status_ok
    if (same_shape(tensor_shape(config%weights(number)%dims), tensor_shape(dims))) return
    call reject(config, "weight '" // config%weights(number)%name // "' has the wrong shape", &
      & status, message)
  end subroutine check_weight

  !> Require at least so many dimensions of the first input.
  pure subroutine require_rank(config, inputs, lowest, highest, status, message)
    type(layer_config), intent(in) :: config
    type(tensor_shape), intent(in) :: inputs(:)
    integer, intent(in) :: lowest
    integer, intent(in) :: highest
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    status = status_ok
    if (size(inputs(1)%dims) >= lowest .and. size(inputs(1)%dims) <= highest) return
    call reject(config, "its input has the wrong number of dimensions", status, message)
  end subroutine require_rank

end module pybridge_layer
