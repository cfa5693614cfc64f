! SPDX-License-Identifier: MIT
!> Padding along the first of two axes (steps, channels): with zeros, or periodic, for models on a
!> ring.
module pybridge_padding1d_layer
  use pybridge_kinds, only: i8, rk
  use pybridge_layer, only: check_counts, layer, layer_config, reject, require_rank, tensor_shape
  use pybridge_status, only: status_ok
  implicit none
  private
  public :: padding1d_layer, new_padding1d_layer

  type, extends(layer) :: padding1d_layer
    !> Whether the input is taken to repeat; otherwise it is continued by zeros
    logical :: is_periodic = .false.
    integer :: n_channels = 0
    !> Steps of the input
    integer :: n_source = 0
    !> Steps of the output
    integer :: n_steps = 0
    !> Steps of padding on the left
    integer :: left = 0
  contains
    procedure :: forward
    procedure :: forward_tl
    procedure :: forward_ad
  end type padding1d_layer

contains

  !> Build the layer. Settings: integers, one if periodic and zero if not, left, right.
  subroutine new_padding1d_layer(config, inputs, new, outputs, status, message)
    type(layer_config), intent(in) :: config
    type(tensor_shape), intent(in) :: inputs(:)
    class(layer), allocatable, intent(out) :: new
    type(tensor_shape), allocatable, intent(out) :: outputs(:)
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    type(padding1d_layer) :: made
    integer(i8) :: n

    call check_counts(config, inputs, 1, 3, 0, 0, 0, status, message)
    if (status == status_ok) call require_rank(config, inputs, 2, 2, status, message)
    if (status /= status_ok) return
    made%is_periodic = config%integers(1) == 1
    made%n_source = inputs(1)%dims(1)
    made%n_channels = inputs(1)%dims(2)
    made%left = config%integers(2)
    n = int(made%n_source, i8) + config%integers(2) + config%integers(3)
    if (min(config%integers(2), config%integers(3)) < 0 .or. config%integers(1) < 0 &
      & .or. config%integers(1) > 1 .or. n*made%n_channels > huge(1)) then
      call reject(config, "padding out of range", status, message)
      return
    end if
    made%n_steps = int(n)
    made%n_in = made%n_source*made%n_channels
    made%n_out = made%n_steps*made%n_channels
    allocate (outputs(1))
    outputs(1)%dims = [made%n_steps, made%n_channels]
    allocate (new, source=made)
  end subroutine new_padding1d_layer

  subroutine forward(self, nb, p, x, y, record, work)
    class(padding1d_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(out) :: y(self%n_out, nb)
    real(rk), intent(out) :: record(self%n_record, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)

    integer :: j

    associate (unused_p => p, unused_work => work)
    end associate
    record = 0.0_rk
    do j = 1, nb
      call pad(self, x(:, j), y(:, j))
    end do
  end subroutine forward

  subroutine forward_tl(self, nb, p, x, record, dx, dy, work, dp)
    class(padding1d_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(in) :: record(self%n_record, nb)
    real(rk), intent(in) :: dx(self%n_in, nb)
    real(rk), intent(out) :: dy(self%n_out, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)
    real(rk), intent(in), optional :: dp(self%n_parameters)

    integer :: j

    associate (unused_p => p, unused_x => x, unused_record => record, unused_work => work)
    end associate
    if (present(dp)) continue
    do j = 1, nb
      call pad(self, dx(:, j), dy(:, j))
    end do
  end subroutine forward_tl

  subroutine forward_ad(self, nb, p, x, record, y_ad, x_ad, work, p_ad)
    class(padding1d_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(in) :: record(self%n_record, nb)
    real(rk), intent(inout) :: y_ad(self%n_out, nb)
    real(rk), intent(inout) :: x_ad(self%n_in, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    integer :: j

    associate (unused_p => p, unused_x => x, unused_record => record, unused_work => work)
    end associate
    if (present(p_ad)) continue
    do j = 1, nb
      call pad_ad(self, y_ad(:, j), x_ad(:, j))
    end do
  end subroutine forward_ad

  !> Pad one sample.
  pure subroutine pad(self, x, y)
    class(padding1d_layer), intent(in) :: self
    real(rk), intent(in) :: x(self%n_channels, self%n_source)
    real(rk), intent(out) :: y(self%n_channels, self%n_steps)

    integer :: s

    do s = 1, self%left
      y(:, s) = 0.0_rk
      if (self%is_periodic) y(:, s) = x(:, 1 + modulo(s - 1 - self%left, self%n_source))
    end do
    y(:, self%left + 1:self%left + self%n_source) = x
    do s = self%left + self%n_source + 1, self%n_steps
      y(:, s) = 0.0_rk
      if (self%is_periodic) y(:, s) = x(:, 1 + modulo(s - 1 - self%left, self%n_source))
    end do
  end subroutine pad

  !> The adjoint of `pad`.
  pure subroutine pad_ad(self, y_ad, x_ad)
    class(padding1d_layer), intent(in) :: self
    real(rk), intent(in) :: y_ad(self%n_channels, self%n_steps)
    real(rk), intent(inout) :: x_ad(self%n_channels, self%n_source)

    integer :: s, source

    x_ad = x_ad + y_ad(:, self%left + 1:self%left + self%n_source)
    if (.not. self%is_periodic) return
    do s = 1, self%n_steps
      if (s > self%left .and. s <= self%left + self%n_source) cycle
      source = 1 + modulo(s - 1 - self%left, self%n_source)
      x_ad(:, source) = x_ad(:, source) + y_ad(:, s)
    end do
  end subroutine pad_ad

end module pybridge_padding1d_layer
