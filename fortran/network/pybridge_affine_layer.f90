! SPDX-License-Identifier: MIT
!> Fixed affine maps: Keras's Normalization, `y = (x - mean)/deviation`, and Rescaling,
!> `y = x*scale + offset`, each computed with the operations that Keras uses.
module pybridge_affine_layer
  use pybridge_kinds, only: rk
  use pybridge_layer, only: check_counts, layer, layer_config, n_values, reject, tensor_shape
  use pybridge_status, only: status_ok
  implicit none
  private
  public :: affine_layer, new_affine_layer

  type, extends(layer) :: affine_layer
    !> Subtract and divide, rather than multiply and add
    logical :: divides = .false.
    !> Length of the constants, which repeat along the input
    integer :: period = 0
    !> Mean, or offset
    real(rk), allocatable :: shift(:)
    !> Deviation, or scale
    real(rk), allocatable :: factor(:)
  contains
    procedure :: forward
    procedure :: forward_tl
    procedure :: forward_ad
  end type affine_layer

contains

  !> Build the layer. Settings: integer 1, one for Normalization and zero for Rescaling; constants
  !> 1, mean or offset; constants 2, deviation or scale. They have equal lengths, which divide the
  !> size of the input: one value, the last axis, or the whole input.
  subroutine new_affine_layer(config, inputs, new, outputs, status, message)
    type(layer_config), intent(in) :: config
    type(tensor_shape), intent(in) :: inputs(:)
    class(layer), allocatable, intent(out) :: new
    type(tensor_shape), allocatable, intent(out) :: outputs(:)
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    type(affine_layer) :: made

    call check_counts(config, inputs, 1, 1, 0, 2, 0, status, message)
    if (status /= status_ok) return
    made%divides = config%integers(1) == 1
    if (config%integers(1) < 0 .or. config%integers(1) > 1) then
      call reject(config, "unknown form", status, message)
      return
    end if
    made%n_in = n_values(inputs(1))
    made%n_out = made%n_in
    made%shift = config%constants(1)%values
    made%factor = config%constants(2)%values
    made%period = size(made%shift)
    if (made%period < 1 .or. size(made%factor) /= made%period) then
      call reject(config, "its constants differ in length, or are none", status, message)
      return
    end if
    if (modulo(made%n_in, made%period) /= 0) then
      call reject(config, "its constants do not fit the input", status, message)
      return
    end if
    allocate (outputs, source=inputs)
    allocate (new, source=made)
  end subroutine new_affine_layer

  subroutine forward(self, nb, p, x, y, record, work)
    class(affine_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(out) :: y(self%n_out, nb)
    real(rk), intent(out) :: record(self%n_record, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)

    integer :: i, j, c

    associate (unused_p => p, unused_work => work)
    end associate
    record = 0.0_rk
    c = self%period
    do j = 1, nb
      if (c == 1) then
        if (self%divides) then
          y(:, j) = (x(:, j) - self%shift(1))/self%factor(1)
        else
          y(:, j) = x(:, j)*self%factor(1) + self%shift(1)
        end if
        cycle
      end if
      do i = 0, self%n_in - c, c
        if (self%divides) then
          y(i + 1:i + c, j) = (x(i + 1:i + c, j) - self%shift)/self%factor
        else
          y(i + 1:i + c, j) = x(i + 1:i + c, j)*self%factor + self%shift
        end if
      end do
    end do
  end subroutine forward

  subroutine forward_tl(self, nb, p, x, record, dx, dy, work, dp)
    class(affine_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(in) :: record(self%n_record, nb)
    real(rk), intent(in) :: dx(self%n_in, nb)
    real(rk), intent(out) :: dy(self%n_out, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)
    real(rk), intent(in), optional :: dp(self%n_parameters)

    integer :: i, j, c

    associate (unused_p => p, unused_x => x, unused_record => record, unused_work => work)
    end associate
    if (present(dp)) continue
    c = self%period
    do j = 1, nb
      if (c == 1) then
        if (self%divides) then
          dy(:, j) = dx(:, j)/self%factor(1)
        else
          dy(:, j) = dx(:, j)*self%factor(1)
        end if
        cycle
      end if
      do i = 0, self%n_in - c, c
        if (self%divides) then
          dy(i + 1:i + c, j) = dx(i + 1:i + c, j)/self%factor
        else
          dy(i + 1:i + c, j) = dx(i + 1:i + c, j)*self%factor
        end if
      end do
    end do
  end subroutine forward_tl

  subroutine forward_ad(self, nb, p, x, record, y_ad, x_ad, work, p_ad)
    class(affine_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(in) :: record(self%n_record, nb)
    real(rk), intent(inout) :: y_ad(self%n_out, nb)
    real(rk), intent(inout) :: x_ad(self%n_in, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    integer :: i, j, c

    associate (unused_p => p, unused_x => x, unused_record => record, unused_work => work)
    end associate
    if (present(p_ad)) continue
    c = self%period
    do j = 1, nb
      if (c == 1) then
        if (self%divides) then
          x_ad(:, j) = x_ad(:, j) + y_ad(:, j)/self%factor(1)
        else
          x_ad(:, j) = x_ad(:, j) + y_ad(:, j)*self%factor(1)
        end if
        cycle
      end if
      do i = 0, self%n_in - c, c
        if (self%divides) then
          x_ad(i + 1:i + c, j) = x_ad(i + 1:i + c, j) + y_ad(i + 1:i + c, j)/self%factor
        else
          x_ad(i + 1:i + c, j) = x_ad(i + 1:i + c, j) + y_ad(i + 1:i + c, j)*self%factor
        end if
      end do
    end do
  end subroutine forward_ad

end module pybridge_affine_layer
