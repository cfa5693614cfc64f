! SPDX-License-Identifier: MIT
!> Conv1D: `y(s) = activation(b + sum_t W_t x(s*stride + t*dilation - left))`, channels last.
!>
!> Without dilation and groups, the window that belongs to an output step is contiguous in memory,
!> so the steps that see a whole window are one matrix product with overlapping columns, and those
!> at an edge are products with a part of W. Otherwise there is one product for each tap (and
!> group). Nothing is ever copied or padded.
module pybridge_conv1d_layer
  use pybridge_activation, only: activation_function, find_activation
  use pybridge_kinds, only: i8, rk
  use pybridge_layer, only: check_counts, check_weight, layer, layer_config, reject, &
    & require_rank, tensor_shape
  use pybridge_matrix_product, only: add_outer_product, add_product, add_product_transposed
  use pybridge_status, only: status_ok, status_unsupported
  implicit none
  private
  public :: conv1d_layer, new_conv1d_layer

  !> One product: output steps `step+1 … step+n_steps`, taps `tap+1 … tap+n_taps`
  type :: piece
    !> Where W, x and y begin, less one
    integer :: w = 0
    integer :: x = 0
    integer :: y = 0
    !> Rows of y, steps, rows of x
    integer :: m = 0
    integer :: n = 0
    integer :: k = 0
  end type piece

  !> Parameters: the kernel, (taps, in/groups, out) in Keras, which is W(out, in/groups, taps)
  !> here; then the bias.
  type, extends(layer) :: conv1d_layer
    integer :: n_channels = 0
    integer :: n_filters = 0
    integer :: n_steps = 0
    !> Distance in x between the windows of neighbouring output steps
    integer :: step_distance = 0
    logical :: has_bias = .false.
    type(activation_function) :: activation
    type(piece), allocatable :: pieces(:)
    !> The same, one tap at a time, where the windows overlap: the adjoint's products
    type(piece), allocatable :: taps(:)
  contains
    procedure :: forward
    procedure :: forward_tl
    procedure :: forward_ad
  end type conv1d_layer

contains

  !> Build the layer. Settings: integers, stride, dilation, groups; text 1, padding; text 2, the
  !> activation; constants 1, the activation's.
  subroutine new_conv1d_layer(config, inputs, new, outputs, status, message)
    type(layer_config), intent(in) :: config
    type(tensor_shape), intent(in) :: inputs(:)
    class(layer), allocatable, intent(out) :: new
    type(tensor_shape), allocatable, intent(out) :: outputs(:)
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    type(conv1d_layer) :: made
    logical :: found
    integer :: n_in, n_taps, stride, dilation, groups, left, extent
    integer(i8) :: padded

    call check_counts(config, inputs, 1, 3, 2, 1, size(config%weights), status, message)
    if (status == status_ok) call require_rank(config, inputs, 2, 2, status, message)
    if (status /= status_ok) return
    if (size(config%weights) < 1 .or. size(config%weights) > 2) then
      call reject(config, "wrong number of weight arrays", status, message)
      return
    end if
    if (size(config%weights(1)%dims) /= 3) then
      call reject(config, "the kernel has not three dimensions", status, message)
      return
    end if
    n_in = inputs(1)%dims(1)
    made%n_channels = inputs(1)%dims(2)
    made%has_bias = size(config%weights) == 2
    stride = config%integers(1)
    dilation = config%integers(2)
    groups = config%integers(3)
    n_taps = config%weights(1)%dims(1)
    made%n_filters = config%weights(1)%dims(3)
    if (min(stride, dilation, groups) < 1 .or. max(stride, dilation) > 1000000) then
      call reject(config, "stride, dilation or groups out of range", status, message)
      return
    end if
    if (stride > 1 .and. dilation > 1) then
      call reject(config, "stride and dilation together are not supported", status, message, &
        & status_unsupported)
      return
    end if
    if (modulo(made%n_channels, groups) /= 0 .or. modulo(made%n_filters, groups) /= 0) then
      call reject(config, "channels are no multiple of groups", status, message)
      return
    end if
    call check_weight(config, 1, [n_taps, made%n_channels/groups, made%n_filters], status, message)
    if (status == status_ok .and. made%has_bias) then
      call check_weight(config, 2, [made%n_filters], status, message)
    end if
    if (status /= status_ok) return
    padded = int(n_taps - 1, i8)*dilation + 1
    if (max(padded, int(n_in, i8)) > 100000000 &
      & .or. int(stride, i8)*made%n_channels > huge(1)) then
      call reject(config, "the window or its input is too large", status, message)
      return
    end if
    ! Length of the window
    extent = int(padded)
    select case (config%texts(1)%text)
    case ("valid")
      made%n_steps = (n_in - extent)/stride + 1
      if (n_in < extent) made%n_steps = 0
      left = 0
    case ("same")
      ! TensorFlow's rule: the smaller half of the padding is on the left
      made%n_steps = (n_in + stride - 1)/stride
      left = max((made%n_steps - 1)*stride + extent - n_in, 0)/2
    case ("causal")
      made%n_steps = (n_in - 1)/stride + 1
      left = extent - 1
    case default
      call reject(config, "padding '" // config%texts(1)%text // "' is not supported", status, &
        & message, status_unsupported)
      return
    end select
    if (made%n_steps < 1) then
      call reject(config, "the window is longer than the input", status, message)
      return
    end if
    if (int(made%n_steps, i8)*made%n_filters > huge(1)) then
      call reject(config, "the output is too large", status, message)
      return
    end if
    call find_activation(config%texts(2)%text, config%constants(1)%values, made%activation, found)
    if (.not. found) then
      call reject(config, "activation '" // config%texts(2)%text // "' is not supported", status, &
        & message, status_unsupported)
      return
    end if
    made%step_distance = stride*made%n_channels
    made%n_in = n_in*made%n_channels
    made%n_out = made%n_steps*made%n_filters
    made%n_parameters = config%n_parameters
    if (.not. made%activation%is_linear()) made%n_record = made%n_out
    call list_pieces(made, n_in, n_taps, stride, dilation, groups, left)
    allocate (outputs(1))
    outputs(1)%dims = [made%n_steps, made%n_filters]
    allocate (new, source=made)
  end subroutine new_conv1d_layer

  !> Work out the matrix products of which the convolution consists.
  subroutine list_pieces(self, n_in, n_taps, stride, dilation, groups, left)
    type(conv1d_layer), intent(inout) :: self
    !> Steps of the input
    integer, intent(in) :: n_in
    integer, intent(in) :: n_taps
    integer, intent(in) :: stride
    integer, intent(in) :: dilation
    integer, intent(in) :: groups
    !> Steps of padding on the left
    integer, intent(in) :: left

    integer :: c, f, t, g, s, first, last, start, count, pass
    integer, allocatable :: from(:), to(:)

    c = self%n_channels/groups
    f = self%n_filters/groups
    allocate (from(n_taps), to(n_taps))
    ! Output steps (from zero) at which each tap lies within the input
    do t = 0, n_taps - 1
      start = t*dilation - left
      from(t + 1) = max((-start + stride - 1)/stride, 0)
      to(t + 1) = -1
      if (n_in - 1 - start >= 0) to(t + 1) = min((n_in - 1 - start)/stride, self%n_steps - 1)
    end do
    ! A product for each tap and group
    allocate (self%taps(n_taps*groups))
    count = 0
    do t = 1, n_taps
      if (to(t) < from(t)) cycle
      do g = 0, groups - 1
        count = count + 1
        self%taps(count) = piece(w=self%n_filters*c*(t - 1) + f*g, &
          & x=(from(t)*stride + (t - 1)*dilation - left)*self%n_channels + c*g, &
          & y=from(t)*self%n_filters + f*g, m=f, n=to(t) - from(t) + 1, k=c)
      end do
    end do
    self%taps = self%taps(1:count)
    if (dilation > 1 .or. groups > 1) then
      self%pieces = self%taps
      return
    end if
    ! A product for the steps that see the same taps: as a rule the edges and the interior
    do pass = 1, 2
      count = 0
      s = 0
      do while (s < self%n_steps)
        call taps_at(s, first, last)
        start = s
        do while (s < self%n_steps)
          call taps_at(s, t, g)
          if (t /= first .or. g /= last) exit
          s = s + 1
        end do
        if (last < first) cycle
        count = count + 1
        if (pass == 2) then
          self%pieces(count) = piece(w=self%n_filters*c*(first - 1), &
            & x=(start*stride + first - 1 - left)*c, y=start*f, m=f, n=s - start, &
            & k=(last - first + 1)*c)
        end if
      end do
      if (pass == 1) allocate (self%pieces(count))
    end do

  contains

    !> The first and the last tap that lie within the input at an output step.
    subroutine taps_at(step, first_tap, last_tap)
      integer, intent(in) :: step
      integer, intent(out) :: first_tap
      integer, intent(out) :: last_tap

      ! Input steps step*stride - left + (tap - 1) must lie in 0 … n_in - 1
      first_tap = max(1, left - step*stride + 1)
      last_tap = min(n_taps, n_in - step*stride + left)
    end subroutine taps_at

  end subroutine list_pieces

  subroutine forward(self, nb, p, x, y, record, work)
    class(conv1d_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(out) :: y(self%n_out, nb)
    real(rk), intent(out) :: record(self%n_record, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)

    integer :: j

    associate (unused_work => work)
    end associate
    do j = 1, nb
      if (self%has_bias) then
        call set_columns(self%n_filters, self%n_steps, &
          & p(self%n_parameters - self%n_filters + 1), y(:, j))
      else
        y(:, j) = 0.0_rk
      end if
      call add_pieces(self, p, x(:, j), y(:, j))
    end do
    if (.not. self%activation%is_linear()) then
      call self%activation%apply(int(self%n_out, i8)*nb, y, record)
    end if
  end subroutine forward

  subroutine forward_tl(self, nb, p, x, record, dx, dy, work, dp)
    class(conv1d_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(in) :: record(self%n_record, nb)
    real(rk), intent(in) :: dx(self%n_in, nb)
    real(rk), intent(out) :: dy(self%n_out, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)
    real(rk), intent(in), optional :: dp(self%n_parameters)

    integer :: j

    associate (unused_work => work)
    end associate
    do j = 1, nb
      if (present(dp) .and. self%has_bias) then
        call set_columns(self%n_filters, self%n_steps, &
          & dp(self%n_parameters - self%n_filters + 1), dy(:, j))
      else
        dy(:, j) = 0.0_rk
      end if
      call add_pieces(self, p, dx(:, j), dy(:, j))
      if (present(dp)) call add_pieces(self, dp, x(:, j), dy(:, j))
    end do
    if (.not. self%activation%is_linear()) dy = dy*record
  end subroutine forward_tl

  subroutine forward_ad(self, nb, p, x, record, y_ad, x_ad, work, p_ad)
    class(conv1d_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(in) :: record(self%n_record, nb)
    real(rk), intent(inout) :: y_ad(self%n_out, nb)
    real(rk), intent(inout) :: x_ad(self%n_in, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    integer :: i, j

    associate (unused_work => work)
    end associate
    if (.not. self%activation%is_linear()) y_ad = y_ad*record
    do j = 1, nb
      if (self%step_distance < 8) then
        do i = 1, size(self%pieces)
          associate (q => self%pieces(i))
            call add_product_transposed(q%m, q%n, q%k, p(q%w + 1), self%n_filters, &
              & y_ad(q%y + 1, j), self%n_filters, x_ad(q%x + 1, j), self%step_distance)
          end associate
        end do
      else
        ! With many channels, it is better to take taps singly than to add overlapping columns
        do i = 1, size(self%taps)
          associate (q => self%taps(i))
            call add_product_transposed(q%m, q%n, q%k, p(q%w + 1), self%n_filters, &
              & y_ad(q%y + 1, j), self%n_filters, x_ad(q%x + 1, j), self%step_distance)
          end associate
        end do
      end if
      if (.not. present(p_ad)) cycle
      do i = 1, size(self%pieces)
        associate (q => self%pieces(i))
          call add_outer_product(q%m, q%n, q%k, y_ad(q%y + 1, j), self%n_filters, &
            & x(q%x + 1, j), self%step_distance, p_ad(q%w + 1), self%n_filters)
        end associate
      end do
      if (self%has_bias) then
        call add_columns(self%n_filters, self%n_steps, y_ad(:, j), &
          & p_ad(self%n_parameters - self%n_filters + 1))
      end if
    end do
  end subroutine forward_ad

  !> `y <- y + W x` for one sample.
  subroutine add_pieces(self, w, x, y)
    class(conv1d_layer), intent(in) :: self
    real(rk), intent(in) :: w(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in)
    real(rk), intent(inout) :: y(self%n_out)

    integer :: i

    do i = 1, size(self%pieces)
      associate (q => self%pieces(i))
        call add_product(q%m, q%n, q%k, w(q%w + 1), self%n_filters, x(q%x + 1), &
          & self%step_distance, y(q%y + 1), self%n_filters)
      end associate
    end do
  end subroutine add_pieces

  !> Every step of `y` becomes the bias.
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

end module pybridge_conv1d_layer
