! SPDX-License-Identifier: MIT
!> An activation as a layer of its own.
module pybridge_activation_layer
  use pybridge_activation, only: activation_function, find_activation
  use pybridge_kinds, only: i8, rk
  use pybridge_layer, only: check_counts, layer, layer_config, n_values, reject, tensor_shape
  use pybridge_status, only: status_ok, status_unsupported
  implicit none
  private
  public :: activation_layer, new_activation_layer

  type, extends(layer) :: activation_layer
    type(activation_function) :: activation
  contains
    procedure :: forward
    procedure :: forward_tl
    procedure :: forward_ad
  end type activation_layer

contains

  !> Build the layer. Settings: text 1, the activation; constants 1, its constants.
  subroutine new_activation_layer(config, inputs, new, outputs, status, message)
    type(layer_config), intent(in) :: config
    type(tensor_shape), intent(in) :: inputs(:)
    class(layer), allocatable, intent(out) :: new
    type(tensor_shape), allocatable, intent(out) :: outputs(:)
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    type(activation_layer) :: made
    logical :: found

    call check_counts(config, inputs, 1, 0, 1, 1, 0, status, message)
    if (status /= status_ok) return
    call find_activation(config%texts(1)%text, config%constants(1)%values, made%activation, found)
    if (.not. found) then
      call reject(config, "activation '" // config%texts(1)%text // "' is not supported", status, &
        & message, status_unsupported)
      return
    end if
    allocate (outputs, source=inputs)
    made%n_in = n_values(inputs(1))
    made%n_out = made%n_in
    made%n_record = made%n_in
    made%is_identity = made%activation%is_linear()
    allocate (new, source=made)
  end subroutine new_activation_layer

  subroutine forward(self, nb, p, x, y, record, work)
    class(activation_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(out) :: y(self%n_out, nb)
    real(rk), intent(out) :: record(self%n_record, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)

    associate (unused_p => p, unused_work => work)
    end associate
    y = x
    call self%activation%apply(int(self%n_out, i8)*nb, y, record)
  end subroutine forward

  subroutine forward_tl(self, nb, p, x, record, dx, dy, work, dp)
    class(activation_layer), intent(in) :: self
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
    dy = dx*record
  end subroutine forward_tl

  subroutine forward_ad(self, nb, p, x, record, y_ad, x_ad, work, p_ad)
    class(activation_layer), intent(in) :: self
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
    x_ad = x_ad + y_ad*record
  end subroutine forward_ad

end module pybridge_activation_layer
