! SPDX-License-Identifier: MIT
!> Makes a layer from its kind: the one list of all layers there are.
module pybridge_layer_factory
  use pybridge_activation_layer, only: new_activation_layer
  use pybridge_affine_layer, only: new_affine_layer
  use pybridge_concatenate_layer, only: new_concatenate_layer
  use pybridge_conv1d_layer, only: new_conv1d_layer
  use pybridge_dense_layer, only: new_dense_layer
  use pybridge_identity_layer, only: new_identity_layer
  use pybridge_layer, only: layer, layer_config, reject, tensor_shape
  use pybridge_merge_layer, only: new_merge_layer
  use pybridge_padding1d_layer, only: new_padding1d_layer
  use pybridge_softmax_layer, only: new_softmax_layer
  use pybridge_status, only: status_unsupported
  implicit none
  private
  public :: new_layer

contains

  !> Make a layer for inputs of the given shapes.
  subroutine new_layer(config, inputs, new, outputs, status, message)
    !> Kind, settings and weights
    type(layer_config), intent(in) :: config
    !> Shape of each input, without the batch
    type(tensor_shape), intent(in) :: inputs(:)
    !> The layer, if the status is zero
    class(layer), allocatable, intent(out) :: new
    !> Shape of each output
    type(tensor_shape), allocatable, intent(out) :: outputs(:)
    integer, intent(out) :: status
    !> What is wrong, naming the layer and its class
    character(len=:), allocatable, intent(out) :: message

    select case (config%kind)
    case ("dense")
      call new_dense_layer(config, inputs, new, outputs, status, message)
    case ("conv1d")
      call new_conv1d_layer(config, inputs, new, outputs, status, message)
    case ("activation")
      call new_activation_layer(config, inputs, new, outputs, status, message)
    case ("softmax")
      call new_softmax_layer(config, inputs, new, outputs, status, message)
    case ("affine")
      call new_affine_layer(config, inputs, new, outputs, status, message)
    case ("padding1d")
      call new_padding1d_layer(config, inputs, new, outputs, status, message)
    case ("identity")
      call new_identity_layer(config, inputs, new, outputs, status, message)
    case ("merge")
      call new_merge_layer(config, inputs, new, outputs, status, message)
    case ("concatenate")
      call new_concatenate_layer(config, inputs, new, outputs, status, message)
    case default
      call reject(config, "layers of kind '" // config%kind // "' are not supported", status, &
        & message, status_unsupported)
    end select
  end subroutine new_layer

end module pybridge_layer_factory
