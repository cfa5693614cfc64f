! SPDX-License-Identifier: MIT
!> Layers that pass their values on: Flatten, Reshape, Dropout and its kin at inference. The network
!> does not even copy them.
module pybridge_identity_layer
  use pybridge_kinds, only: rk
  use pybridge_layer, only: check_counts, layer, layer_config, n_values, reject, tensor_shape
  use pybridge_status, only: status_ok
  implicit none
  private
  public :: identity_layer, new_identity_layer

  type, extends(layer) :: identity_layer
  contains
    procedure :: forward
    procedure :: forward_tl
    procedure :: forward_ad
  end type identity_layer

contains

  !> Build the layer. Settings: integers, the shape of the output.
  subroutine new_identity_layer(config, inputs, new, outputs, status, message)
    type(layer_config), intent(in) :: config
    type(tensor_shape), intent(in) :: inputs(:)
    class(layer), allocatable, intent(out) :: new
    type(tensor_shape), allocatable, intent(out) :: outputs(:)
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    type(identity_layer) :: made

    call check_counts(config, inputs, 1, size(config%integers), 0, 0, 0, status, message)
    if (status /= status_ok) return
    allocate (outputs(1))
    outputs(1)%dims = config%integers
    made%n_in = n_values(inputs(1))
    made%n_out = n_values(outputs(1))
    made%is_identity = .true.
    if (made%n_in /= made%n_out) then
      call reject(config, "input and output differ in size", status, message)
      return
    end if
    allocate (new, source=made)
  end subroutine new_identity_layer

  subroutine forward(self, nb, p, x, y, record, work)
    class(identity_layer), intent(in) :: self
    integer, intent(in) :: nb
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_in, nb)
    real(rk), intent(out) :: y(self%n_out, nb)
    real(rk), intent(out) :: record(self%n_record, nb)
    real(rk), intent(inout) :: work(self%n_work, nb)

    associate (unused_p => p, unused_work => work)
    end associate
    y = x
    record = 0.0_rk
  end subroutine forward

  subroutine forward_tl(self, nb, p, x, record, dx, dy, work, dp)
    class(identity_layer), intent(in) :: self
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
    dy = dx
  end subroutine forward_tl

  subroutine forward_ad(self, nb, p, x, record, y_ad, x_ad, work, p_ad)
    class(identity_layer), intent(in) :: self
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
    x_ad = x_ad + y_ad
  end subroutine forward_ad

end module pybridge_identity_layer
