! SPDX-License-Identifier: MIT
!> The C ABI of hybrid models. `pybridge.h` describes each procedure for its callers.
module pybridge_hybrid_api
  use, intrinsic :: iso_c_binding, only: c_associated, c_char, c_double, c_f_pointer, c_int, &
    & c_null_ptr, c_ptr
  use pybridge_correction, only: network_correction, new_network_correction
  use pybridge_hybrid_forcing, only: new_hybrid_forcing_model
  use pybridge_hybrid_increment, only: new_hybrid_increment_model
  use pybridge_hybrid_tendency, only: new_hybrid_tendency
  use pybridge_model_api, only: model_handle, new_model_handle
  use pybridge_network_api, only: network_handle
  use pybridge_runge_kutta, only: new_runge_kutta_model, runge_kutta_model
  use pybridge_status, only: status_invalid_argument, status_null_handle, status_ok, &
    & status_out_of_memory, status_unsupported
  use pybridge_tendency, only: tendency_term
  use pybridge_text, only: put_text
  implicit none
  private

  !> How a correction is applied
  integer(c_int), parameter :: mode_tendency = 0
  integer(c_int), parameter :: mode_increment = 1
  integer(c_int), parameter :: mode_forcing = 2

contains

  !> A model with a network's correction, as a model. Model and network are copied.
  function hybrid(model, net, mode, every, n_fixed, fixed, n_periods, periods, handle, message, &
    & message_length) result(status) bind(c, name="pybridge_model_hybrid")
    type(c_ptr), value :: model, net
    integer(c_int), value :: mode, every, n_fixed, n_periods
    real(c_double), intent(in) :: fixed(*), periods(*)
    type(c_ptr), intent(out) :: handle
    integer(c_int), value :: message_length
    character(kind=c_char), intent(inout) :: message(*)
    integer(c_int) :: status

    type(model_handle), pointer :: physics
    type(network_handle), pointer :: network_object
    type(network_correction) :: correction
    type(runge_kutta_model) :: corrected
    class(tendency_term), allocatable :: tendency
    character(len=:), allocatable :: text

    handle = c_null_ptr
    status = status_null_handle
    if (.not. (c_associated(model) .and. c_associated(net))) return
    call c_f_pointer(model, physics)
    call c_f_pointer(net, network_object)
    status = status_invalid_argument
    if (n_fixed < 0 .or. n_periods < 0 .or. every < 1) return
    call new_network_correction(network_object%net, physics%model%n_state, fixed(1:n_fixed), &
      & periods(1:n_periods), correction, status, text)
    if (status /= status_ok) then
      call put_text(text, message, message_length)
      return
    end if
    select case (mode)
    case (mode_tendency)
      call physics%model%get_tendency(tendency)
      if (.not. allocated(tendency)) then
        status = status_unsupported
        call put_text("a correction of the tendency needs a model that is an integrated " &
          & // "tendency; correct this one by increments or by a forcing", message, message_length)
        return
      end if
      corrected = new_runge_kutta_model(new_hybrid_tendency(tendency, correction), physics%model%dt)
      corrected%parameters(1:physics%model%n_parameters) = physics%model%parameters
      corrected%blow_up_limit = physics%model%blow_up_limit
      handle = new_model_handle(corrected)
    case (mode_increment)
      handle = new_model_handle(new_hybrid_increment_model(physics%model, correction, every))
    case (mode_forcing)
      handle = new_model_handle(new_hybrid_forcing_model(physics%model, correction))
    case default
      status = status_invalid_argument
      call put_text("unknown way to apply a correction", message, message_length)
      return
    end select
    status = merge(status_ok, status_out_of_memory, c_associated(handle))
  end function hybrid

end module pybridge_hybrid_api
