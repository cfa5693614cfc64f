! SPDX-License-Identifier: MIT
!> The C ABI of forecast models. `pybridge.h` describes each procedure for its callers.
module pybridge_model_api
  use, intrinsic :: iso_c_binding, only: c_associated, c_char, c_double, c_f_pointer, c_funptr, &
    & c_int, c_int64_t, c_loc, c_null_ptr, c_ptr
  use pybridge_forecast_model, only: forecast_model
  use pybridge_lorenz63, only: new_lorenz63_tendency
  use pybridge_lorenz96, only: new_lorenz96_tendency
  use pybridge_recharge_oscillator, only: new_recharge_oscillator_tendency
  use pybridge_runge_kutta, only: new_runge_kutta_model
  use pybridge_status, only: status_invalid_argument, status_null_handle, status_ok, &
    & status_out_of_memory, status_wrong_shape
  use pybridge_tendency, only: tendency_term
  use pybridge_text, only: put_status
  use pybridge_trajectory, only: failure, forecast, forecast_ad, forecast_tl, workspace_ad, &
    & workspace_forecast, workspace_size, workspace_tl
  use pybridge_two_scale_lorenz96, only: new_two_scale_lorenz96_tendency
  use pybridge_user_model, only: new_user_model, user_model
  implicit none
  private
  public :: model_handle, new_model_handle

  !> What an opaque pointer to a model points to
  type :: model_handle
    class(forecast_model), allocatable :: model
  end type model_handle

  !> The largest state whose buffers for a step have sizes that are default integers
  integer, parameter :: largest_state = 2**28 - 1

contains

  !> A handle for any forecast model, which is copied: the door for `extends(forecast_model)`.
  function new_model_handle(model) result(handle)
    class(forecast_model), intent(in) :: model
    !> Null where memory ran out, or where the model's parameters are not what it says
    type(c_ptr) :: handle

    type(model_handle), pointer :: object
    integer :: stat

    handle = c_null_ptr
    if (allocated(model%parameters)) then
      if (size(model%parameters) /= model%n_parameters) return
    else if (model%n_parameters /= 0) then
      return
    end if
    allocate (object, stat=stat)
    if (stat /= 0) return
    allocate (object%model, source=model, stat=stat)
    if (stat /= 0) then
      deallocate (object)
      return
    end if
    if (.not. allocated(object%model%parameters)) allocate (object%model%parameters(0))
    handle = c_loc(object)
  end function new_model_handle

  !> One sentence for a status code.
  subroutine status_message(status, message, length) bind(c, name="pybridge_status_message")
    integer(c_int), value :: status
    integer(c_int), value :: length
    character(kind=c_char), intent(inout) :: message(*)

    call put_status(status, message, length)
  end subroutine status_message

  function lorenz63(dt, sigma, rho, beta, handle) result(status) &
    & bind(c, name="pybridge_model_lorenz63")
    real(c_double), value :: dt, sigma, rho, beta
    type(c_ptr), intent(out) :: handle
    integer(c_int) :: status

    status = integrate(new_lorenz63_tendency(sigma, rho, beta), dt, handle)
  end function lorenz63

  function lorenz96(n, dt, forcing, handle) result(status) &
    & bind(c, name="pybridge_model_lorenz96")
    integer(c_int), value :: n
    real(c_double), value :: dt, forcing
    type(c_ptr), intent(out) :: handle
    integer(c_int) :: status

    handle = c_null_ptr
    status = status_invalid_argument
    if (n < 4 .or. n > largest_state) return
    status = integrate(new_lorenz96_tendency(n, forcing), dt, handle)
  end function lorenz96

  function two_scale_lorenz96(n_slow, n_fast, dt, forcing, h, b, c, handle) result(status) &
    & bind(c, name="pybridge_model_two_scale_lorenz96")
    integer(c_int), value :: n_slow, n_fast
    real(c_double), value :: dt, forcing, h, b, c
    type(c_ptr), intent(out) :: handle
    integer(c_int) :: status

    handle = c_null_ptr
    status = status_invalid_argument
    if (n_slow < 4 .or. n_fast < 1) return
    if (n_slow*(1_c_int64_t + n_fast) > largest_state) return
    if (.not. abs(b) > 0.0_c_double) return
    status = integrate(new_two_scale_lorenz96_tendency(n_slow, n_fast, forcing, h, b, c), dt, &
      & handle)
  end function two_scale_lorenz96

  function recharge_oscillator(dt, parameters, handle) result(status) &
    & bind(c, name="pybridge_model_recharge_oscillator")
    real(c_double), value :: dt
    real(c_double), intent(in) :: parameters(7)
    type(c_ptr), intent(out) :: handle
    integer(c_int) :: status

    status = integrate(new_recharge_oscillator_tendency(parameters), dt, handle)
  end function recharge_oscillator

  function user(n, n_parameters, parameters, dt, context, on_step, on_step_tl, on_step_ad, &
    & handle) result(status) bind(c, name="pybridge_model_user")
    integer(c_int), value :: n, n_parameters
    real(c_double), intent(in) :: parameters(*)
    real(c_double), value :: dt
    type(c_ptr), value :: context
    type(c_funptr), value :: on_step, on_step_tl, on_step_ad
    type(c_ptr), intent(out) :: handle
    integer(c_int) :: status

    handle = c_null_ptr
    status = status_invalid_argument
    if (n < 1 .or. n > largest_state .or. n_parameters < 0 .or. .not. is_positive(dt)) return
    if (.not. c_associated(on_step)) return
    handle = new_model_handle(new_user_model(n, parameters(1:n_parameters), dt, context, on_step, &
      & on_step_tl, on_step_ad))
    status = merge(status_ok, status_out_of_memory, c_associated(handle))
  end function user

  function user_acknowledges(handle) result(status) &
    & bind(c, name="pybridge_model_user_acknowledges")
    type(c_ptr), value :: handle
    integer(c_int) :: status

    type(model_handle), pointer :: object

    status = status_null_handle
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, object)
    status = status_invalid_argument
    select type (model => object%model)
    type is (user_model)
      model%acknowledges = .true.
      status = status_ok
    end select
  end function user_acknowledges

  subroutine free(handle) bind(c, name="pybridge_model_free")
    type(c_ptr), value :: handle

    type(model_handle), pointer :: object

    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, object)
    deallocate (object)
  end subroutine free

  function sizes(handle, n, n_parameters, n_carry, dt) result(status) &
    & bind(c, name="pybridge_model_sizes")
    type(c_ptr), value :: handle
    integer(c_int), intent(out) :: n, n_parameters, n_carry
    real(c_double), intent(out) :: dt
    integer(c_int) :: status

    type(model_handle), pointer :: object

    n = 0
    n_parameters = 0
    n_carry = 0
    dt = 0.0_c_double
    status = status_null_handle
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, object)
    n = object%model%n_state
    n_parameters = object%model%n_parameters
    n_carry = object%model%n - object%model%n_state
    dt = object%model%dt
    status = status_ok
  end function sizes

  function parameters(handle, p) result(status) bind(c, name="pybridge_model_parameters")
    type(c_ptr), value :: handle
    real(c_double), intent(inout) :: p(*)
    integer(c_int) :: status

    type(model_handle), pointer :: object

    status = status_null_handle
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, object)
    p(1:object%model%n_parameters) = object%model%parameters
    status = status_ok
  end function parameters

  function workspace(handle, purpose, n_steps, n_members, n_threads) result(n_values) &
    & bind(c, name="pybridge_model_workspace")
    type(c_ptr), value :: handle
    integer(c_int), value :: purpose, n_steps, n_members, n_threads
    integer(c_int64_t) :: n_values

    type(model_handle), pointer :: object

    n_values = 0_c_int64_t
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, object)
    n_values = workspace_size(object%model, purpose, n_steps, n_members, n_threads)
  end function workspace

  function forecast_c(handle, k, n_steps, every, n_members, n_threads, p, x, trajectory, work, &
    & n_work, failed_member, failed_step) result(status) bind(c, name="pybridge_model_forecast")
    type(c_ptr), value :: handle
    integer(c_int), value :: k, n_steps, every, n_members, n_threads
    real(c_double), intent(in), optional, target :: p(*)
    real(c_double), intent(inout) :: x(*)
    real(c_double), intent(inout), optional, target :: trajectory(*)
    real(c_double), intent(inout) :: work(*)
    integer(c_int64_t), value :: n_work
    integer(c_int), intent(out) :: failed_member, failed_step
    integer(c_int) :: status

    type(model_handle), pointer :: object
    real(c_double), pointer :: p_used(:), states(:, :, :)
    type(failure) :: where_failed

    failed_member = 0
    failed_step = 0
    call open_run(handle, workspace_forecast, k, n_steps, n_members, n_threads, n_work, object, &
      & status)
    if (status /= status_ok) return
    p_used => chosen(object, p)
    if (present(trajectory)) then
      status = status_invalid_argument
      if (every < 1) return
      call c_f_pointer(c_loc(trajectory), states, &
        & [object%model%n_state, n_steps/every + 1, n_members])
      call forecast(object%model, k, n_steps, n_members, n_threads, p_used, x, work, status, &
        & where_failed, every, states)
    else
      call forecast(object%model, k, n_steps, n_members, n_threads, p_used, x, work, status, &
        & where_failed)
    end if
    failed_member = where_failed%member
    failed_step = where_failed%step
  end function forecast_c

  function forecast_tl_c(handle, k, n_steps, n_members, n_threads, p, x, dp, dx, work, n_work, &
    & failed_member, failed_step) result(status) bind(c, name="pybridge_model_forecast_tl")
    type(c_ptr), value :: handle
    integer(c_int), value :: k, n_steps, n_members, n_threads
    real(c_double), intent(in), optional, target :: p(*)
    real(c_double), intent(in) :: x(*)
    real(c_double), intent(in), optional :: dp(*)
    real(c_double), intent(inout) :: dx(*)
    real(c_double), intent(inout) :: work(*)
    integer(c_int64_t), value :: n_work
    integer(c_int), intent(out) :: failed_member, failed_step
    integer(c_int) :: status

    type(model_handle), pointer :: object
    type(failure) :: where_failed

    failed_member = 0
    failed_step = 0
    call open_run(handle, workspace_tl, k, n_steps, n_members, n_threads, n_work, object, status)
    if (status /= status_ok) return
    call forecast_tl(object%model, k, n_steps, n_members, n_threads, chosen(object, p), x, dx, &
      & work, status, where_failed, dp)
    failed_member = where_failed%member
    failed_step = where_failed%step
  end function forecast_tl_c

  function forecast_ad_c(handle, k, n_steps, n_members, n_threads, p, x, x_ad, p_ad, work, n_work, &
    & failed_member, failed_step) result(status) bind(c, name="pybridge_model_forecast_ad")
    type(c_ptr), value :: handle
    integer(c_int), value :: k, n_steps, n_members, n_threads
    real(c_double), intent(in), optional, target :: p(*)
    real(c_double), intent(in) :: x(*)
    real(c_double), intent(inout) :: x_ad(*)
    real(c_double), intent(inout), optional :: p_ad(*)
    real(c_double), intent(inout) :: work(*)
    integer(c_int64_t), value :: n_work
    integer(c_int), intent(out) :: failed_member, failed_step
    integer(c_int) :: status

    type(model_handle), pointer :: object
    type(failure) :: where_failed

    failed_member = 0
    failed_step = 0
    call open_run(handle, workspace_ad, k, n_steps, n_members, n_threads, n_work, object, status)
    if (status /= status_ok) return
    call forecast_ad(object%model, k, n_steps, n_members, n_threads, chosen(object, p), x, x_ad, &
      & work, status, where_failed, p_ad)
    failed_member = where_failed%member
    failed_step = where_failed%step
  end function forecast_ad_c

  !> Check what every run shares, and open its handle.
  subroutine open_run(handle, purpose, k, n_steps, n_members, n_threads, n_work, object, status)
    type(c_ptr), intent(in) :: handle
    integer, intent(in) :: purpose
    integer(c_int), intent(in) :: k, n_steps, n_members, n_threads
    !> Values of workspace that the caller brought
    integer(c_int64_t), intent(in) :: n_work
    type(model_handle), pointer, intent(out) :: object
    integer(c_int), intent(out) :: status

    object => null()
    status = status_null_handle
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, object)
    status = status_invalid_argument
    if (n_steps < 0 .or. n_members < 0 .or. n_threads < 1) return
    ! The number of the step after the last must be one
    if (k > huge(k) - n_steps) return
    status = status_wrong_shape
    if (n_work < workspace_size(object%model, purpose, n_steps, n_members, n_threads)) return
    status = status_ok
  end subroutine open_run

  !> The parameters handed over, or the model's own.
  function chosen(object, p) result(p_used)
    type(model_handle), intent(in), pointer :: object
    real(c_double), intent(in), optional, target :: p(*)
    real(c_double), pointer :: p_used(:)

    p_used => object%model%parameters
    if (present(p)) call c_f_pointer(c_loc(p), p_used, [object%model%n_parameters])
  end function chosen

  !> A handle for a tendency integrated by the Runge-Kutta scheme.
  function integrate(tendency, dt, handle) result(status)
    class(tendency_term), intent(in) :: tendency
    real(c_double), intent(in) :: dt
    type(c_ptr), intent(out) :: handle
    integer(c_int) :: status

    handle = c_null_ptr
    status = status_invalid_argument
    if (.not. is_positive(dt)) return
    handle = new_model_handle(new_runge_kutta_model(tendency, dt))
    status = merge(status_ok, status_out_of_memory, c_associated(handle))
  end function integrate

  pure function is_positive(value)
    real(c_double), intent(in) :: value
    logical :: is_positive

    is_positive = value > 0.0_c_double .and. value <= huge(value)
  end function is_positive

end module pybridge_model_api
