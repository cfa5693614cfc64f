! SPDX-License-Identifier: MIT
!> Softmax along the last axis.
module pybridge_softmax_layer
  use pybridge_activation, only: exp_values
  use pybridge_kinds, only: rk
  use pybridge_layer, only: check_counts, layer, layer_config, n_values, require_rank, tensor_shape
  use pybridge_status, only: status_ok
  implicit none
  private
  public :: softmax_layer, new_softmax_layer

  type, extends(layer) :: softmax_layer
    !> Length of the last axis
    integer :: length = 0
  contains
    procedure :: forward
    procedure :: forward_tl
    procedure :: forward_ad
  end type softmax_layer

contains

  !> Build the layer. It has no settings.
  subroutine new_softmax_layer(config, inputs, new, outputs, status, message)
    type(layer_config), intent(in) :: config
    type(tensor_shape), intent(in) :: inputs(:)
    class(layer), allocatable, intent(out) :: new
    type(tensor_shape), allocatable, intent(out) :: outputs(:)
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    type(softmax_layer) :: made

    call check_counts(config, inputs, 1, 0, 0, 0, 0, status, message)
    if (status == status_ok) call require_rank(config, inputs, 1, 15, status, message)
    if (status /= status_ok) return
    allocate (outputs, source=inputs)
    made%n_in = n_values(inputs(1))
    made%n_out = made%n_in
    made%n_record = made%n_in
    made%length = inputs(1)%dims(size(inputs(1)%dims))
    allocate (new, source=made)
  end subroutine new_softmax_layer

  subroutine forward(self, nb, p, x, y, record, work)
    class(softmax_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(out) :: y(self%n_out, nb)
    real(rk), intent(out) :: record(self%n_record, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)

    integer :: i, j, n
    real(rk) :: largest

    associate (unused_p => p, unused_work => work)
    end associate
    n = self%length
    do j = 1, nb
      do i = 0, self%n_in - n, n
        largest = maxval(x(i + 1:i + n, j))
        record(i + 1:i + n, j) = x(i + 1:i + n, j) - largest
        call exp_values(n, record(i + 1, j), y(i + 1, j))
        y(i + 1:i + n, j) = y(i + 1:i + n, j)/sum(y(i + 1:i + n, j))
        record(i + 1:i + n, j) = y(i + 1:i + n, j)
      end do
    end do
  end subroutine forward

  subroutine forward_tl(self, nb, p, x, record, dx, dy, work, dp)
    class(softmax_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(in) :: record(self%n_record, nb)
    real(rk), intent(in) :: dx(self%n_in, nb)
    real(rk), intent(out) :: dy(self%n_out, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)
    real(rk), intent(in), optional :: dp(self%n_parameters)

    integer :: i, j, n

    associate (unused_p => p, unused_x => x, unused_work => work)
    end associate
    if (present(dp)) continue
    n = self%length
    do j = 1, nb
      do i = 0, self%n_in - n, n
        dy(i + 1:i + n, j) = record(i + 1:i + n, j)*(dx(i + 1:i + n, j) &
          & - dot_product(record(i + 1:i + n, j), dx(i + 1:i + n, j)))
      end do
    end do
  end subroutine forward_tl

  subroutine forward_ad(self, nb, p, x, record, y_ad, x_ad, work, p_ad)
    class(softmax_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(in) :: record(self%n_record, nb)
    real(rk), intent(inout) :: y_ad(self%n_out, nb)
    real(rk), intent(inout) :: x_ad(self%n_in, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    integer :: i, j, n

    associate (unused_p => p, unused_x => x, unused_work => work)
    end associate
    if (present(p_ad)) continue
    n = self%length
    do j = 1, nb
      do i = 0, self%n_in - n, n
        x_ad(i + 1:i + n, j) = x_ad(i + 1:i + n, j) + record(i + 1:i + n, j) &
          & *(y_ad(i + 1:i + n, j) - dot_product(record(i + 1:i + n, j), y_ad(i + 1:i + n, j)))
      end do
    end do
  end subroutine forward_ad

end module pybridge_softmax_layer
