! SPDX-License-Identifier: MIT
!> Dense: `y = activation(W x + b)`, on the last axis of an input of any rank.
module pybridge_dense_layer
  use pybridge_activation, only: activation_function, find_activation
  use pybridge_kinds, only: i8, rk
  use pybridge_layer, only: check_counts, check_weight, layer, layer_config, reject, &
    & require_rank, tensor_shape
  use pybridge_matrix_product, only: add_outer_product, add_product, add_product_transposed
  use pybridge_status, only: status_ok, status_unsupported
  implicit none
  private
  public :: dense_layer, new_dense_layer

  !> Parameters: the kernel, (in, out) in Keras, which is W(out, in) here; then the bias.
  type, extends(layer) :: dense_layer
    !> Length of the last axis of the input
    integer :: n_from = 0
    !> Length of the last axis of the output
    integer :: n_to = 0
    !> Vectors in one sample: the product of the other axes
    integer :: n_vectors = 0
    logical :: has_bias = .false.
    type(activation_function) :: activation
  contains
    procedure :: forward
    procedure :: forward_tl
    procedure :: forward_ad
  end type dense_layer

contains

  !> Build the layer. Settings: text 1, the activation; constants 1, the activation's.
  subroutine new_dense_layer(config, inputs, new, outputs, status, message)
    type(layer_config), intent(in) :: config
    !> Shapes of the inputs
    type(tensor_shape), intent(in) :: inputs(:)
    class(layer), allocatable, intent(out) :: new
    !> Shapes of the outputs
    type(tensor_shape), allocatable, intent(out) :: outputs(:)
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    type(dense_layer) :: made
    logical :: found
    integer :: rank, units

    call check_counts(config, inputs, 1, 0, 1, 1, size(config%weights), status, message)
    if (status == status_ok) call require_rank(config, inputs, 1, 15, status, message)
    if (status /= status_ok) return
    if (size(config%weights) < 1 .or. size(config%weights) > 2) then
      call reject(config, "wrong number of weight arrays", status, message)
      return
    end if
    rank = size(inputs(1)%dims)
    made%n_from = inputs(1)%dims(rank)
    made%has_bias = size(config%weights) == 2
    if (size(config%weights(1)%dims) /= 2) then
      call reject(config, "the kernel is no matrix", status, message)
      return
    end if
    units = config%weights(1)%dims(2)
    call check_weight(config, 1, [made%n_from, units], status, message)
    if (status == status_ok .and. made%has_bias) then
      call check_weight(config, 2, [units], status, message)
    end if
    if (status /= status_ok) return
    call find_activation(config%texts(1)%text, config%constants(1)%values, made%activation, found)
    if (.not. found) then
      call reject(config, "activation '" // config%texts(1)%text // "' is not supported", status, &
        & message, status_unsupported)
      return
    end if
    made%n_to = units
    made%n_vectors = product(inputs(1)%dims(1:rank - 1))
    made%n_in = made%n_vectors*made%n_from
    if (int(made%n_vectors, i8)*units > huge(units)) then
      call reject(config, "the output is too large", status, message)
      return
    end if
    made%n_out = made%n_vectors*units
    made%n_parameters = config%n_parameters
    if (.not. made%activation%is_linear()) made%n_record = made%n_out
    allocate (outputs(1))
    outputs(1)%dims = [inputs(1)%dims(1:rank - 1), units]
    allocate (new, source=made)
  end subroutine new_dense_layer

  subroutine forward(self, nb, p, x, y, record, work)
    class(dense_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(out) :: y(self%n_out, nb)
    real(rk), intent(out) :: record(self%n_record, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)

    integer :: n

    associate (unused_work => work)
    end associate
    n = self%n_vectors*nb
    if (self%has_bias) then
      call set_columns(self%n_to, n, p(self%n_to*self%n_from + 1), y)
    else
      y = 0.0_rk
    end if
    call add_product(self%n_to, n, self%n_from, p, self%n_to, x, self%n_from, y, self%n_to)
    if (.not. self%activation%is_linear()) then
      call self%activation%apply(int(self%n_out, i8)*nb, y, record)
    end if
  end subroutine forward

  subroutine forward_tl(self, nb, p, x, record, dx, dy, work, dp)
    class(dense_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(in) :: record(self%n_record, nb)
    real(rk), intent(in) :: dx(self%n_in, nb)
    real(rk), intent(out) :: dy(self%n_out, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)
    real(rk), intent(in), optional :: dp(self%n_parameters)

    integer :: n

    associate (unused_work => work)
    end associate
    n = self%n_vectors*nb
    if (present(dp) .and. self%has_bias) then
      call set_columns(self%n_to, n, dp(self%n_to*self%n_from + 1), dy)
    else
      dy = 0.0_rk
    end if
    call add_product(self%n_to, n, self%n_from, p, self%n_to, dx, self%n_from, dy, self%n_to)
    if (present(dp)) then
      call add_product(self%n_to, n, self%n_from, dp, self%n_to, x, self%n_from, dy, self%n_to)
    end if
    if (.not. self%activation%is_linear()) dy = dy*record
  end subroutine forward_tl

  subroutine forward_ad(self, nb, p, x, record, y_ad, x_ad, work, p_ad)
    class(dense_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(in) :: record(self%n_record, nb)
    real(rk), intent(inout) :: y_ad(self%n_out, nb)
    real(rk), intent(inout) :: x_ad(self%n_in, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    integer :: n

    associate (unused_work => work)
    end associate
    n = self%n_vectors*nb
    if (.not. self%activation%is_linear()) y_ad = y_ad*record
    call add_product_transposed(self%n_to, n, self%n_from, p, self%n_to, y_ad, self%n_to, x_ad, &
      & self%n_from)
    if (present(p_ad)) then
      call add_outer_product(self%n_to, n, self%n_from, y_ad, self%n_to, x, self%n_from, p_ad, &
        & self%n_to)
      if (self%has_bias) call add_columns(self%n_to, n, y_ad, p_ad(self%n_to*self%n_from + 1))
    end if
  end subroutine forward_ad

  !> Every column of `y` becomes `b`.
  pure subroutine set_columns(m, n, b, y)
    integer, intent(in) :: m
    integer, intent(in) :: n
    real(rk), intent(in) :: b(m)
    real(rk), intent(out) :: y(m, n)

    integer :: i, j

    do j = 1, n
      do i = 1, m
        y(i, j) = b(i)
      end do
    end do
  end subroutine set_columns

  !> The adjoint of `set_columns`.
  pure subroutine add_columns(m, n, y_ad, b_ad)
    integer, intent(in) :: m
    integer, intent(in) :: n
    real(rk), intent(in) :: y_ad(m, n)
    real(rk), intent(inout) :: b_ad(m)

    integer :: i, j

    do j = 1, n
      do i = 1, m
        b_ad(i) = b_ad(i) + y_ad(i, j)
      end do
    end do
  end subroutine add_columns

end module pybridge_dense_layer
