! SPDX-License-Identifier: MIT
!> The C ABI of pybridge for Fortran compilers other than the one that built the library, whose
!> module files they cannot read: compile this file with your code, and link the library.
!>
!>     ifx model.f90 $(pybridge-config --interface) $(pybridge-config --libs)
!>
!> `pybridge.h` says what each procedure does. An absent optional argument is C's null pointer.
!> A test holds the three descriptions of the ABI (this one, the header, the source) together.
module pybridge_interface
  use, intrinsic :: iso_c_binding, only: c_char, c_double, c_funptr, c_int, c_int64_t, c_int8_t, &
    & c_ptr
  implicit none
  public

  !> Status of a procedure
  integer(c_int), parameter :: pybridge_ok = 0
  integer(c_int), parameter :: pybridge_invalid_argument = 1
  integer(c_int), parameter :: pybridge_wrong_shape = 2
  integer(c_int), parameter :: pybridge_blow_up = 3
  integer(c_int), parameter :: pybridge_user_procedure = 4
  integer(c_int), parameter :: pybridge_file_access = 5
  integer(c_int), parameter :: pybridge_file_format = 6
  integer(c_int), parameter :: pybridge_checksum = 7
  integer(c_int), parameter :: pybridge_unsupported = 8
  integer(c_int), parameter :: pybridge_not_positive_definite = 9
  integer(c_int), parameter :: pybridge_observation = 10
  integer(c_int), parameter :: pybridge_not_converged = 11
  integer(c_int), parameter :: pybridge_null_handle = 12
  integer(c_int), parameter :: pybridge_out_of_memory = 13
  integer(c_int), parameter :: pybridge_self_test = 14
  integer(c_int), parameter :: pybridge_not_available = 15

  !> Purpose of a workspace
  integer(c_int), parameter :: pybridge_workspace_forecast = 0
  integer(c_int), parameter :: pybridge_workspace_tl = 1
  integer(c_int), parameter :: pybridge_workspace_ad = 2

  !> How a network corrects a model
  integer(c_int), parameter :: pybridge_correct_tendency = 0
  integer(c_int), parameter :: pybridge_correct_increment = 1
  integer(c_int), parameter :: pybridge_correct_forcing = 2

  abstract interface

    !> Advance the state from time t by one time step.
    function pybridge_user_step(context, k, t, n, n_parameters, p, x) result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      !> What the user handed over with the procedures
      type(c_ptr), value :: context
      !> Number of the step, and its time k*dt
      integer(c_int), value :: k
      real(c_double), value :: t
      integer(c_int), value :: n
      integer(c_int), value :: n_parameters
      real(c_double), intent(in) :: p(n_parameters)
      !> State, before and after
      real(c_double), intent(inout) :: x(n)
      !> Zero, or anything else for a failure
      integer(c_int) :: status
    end function pybridge_user_step

    !> Tangent linear about the state x before the step: dx <- (d/dx) dx + (d/dp) dp.
    function pybridge_user_step_tl(context, k, t, n, n_parameters, p, x, dp, dx) &
      & result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: context
      integer(c_int), value :: k
      real(c_double), value :: t
      integer(c_int), value :: n
      integer(c_int), value :: n_parameters
      real(c_double), intent(in) :: p(n_parameters)
      real(c_double), intent(in) :: x(n)
      real(c_double), intent(in) :: dp(n_parameters)
      real(c_double), intent(inout) :: dx(n)
      integer(c_int) :: status
    end function pybridge_user_step_tl

    !> Adjoint: x_ad <- (d/dx)^T x_ad, p_ad <- p_ad + (d/dp)^T x_ad.
    function pybridge_user_step_ad(context, k, t, n, n_parameters, p, x, x_ad, p_ad) &
      & result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: context
      integer(c_int), value :: k
      real(c_double), value :: t
      integer(c_int), value :: n
      integer(c_int), value :: n_parameters
      real(c_double), intent(in) :: p(n_parameters)
      real(c_double), intent(in) :: x(n)
      real(c_double), intent(inout) :: x_ad(n)
      real(c_double), intent(inout) :: p_ad(n_parameters)
      integer(c_int) :: status
    end function pybridge_user_step_ad

  end interface

  interface

    ! ---- Status and forecast models ----

    subroutine pybridge_status_message(status, message, length) bind(c)
      import :: c_char, c_int
      implicit none
      integer(c_int), value :: status
      integer(c_int), value :: length
      character(kind=c_char), intent(inout) :: message(*)
    end subroutine pybridge_status_message

    function pybridge_model_lorenz63(dt, sigma, rho, beta, handle) result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      real(c_double), value :: dt, sigma, rho, beta
      type(c_ptr), intent(out) :: handle
      integer(c_int) :: status
    end function pybridge_model_lorenz63

    function pybridge_model_lorenz96(n, dt, forcing, handle) result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      integer(c_int), value :: n
      real(c_double), value :: dt, forcing
      type(c_ptr), intent(out) :: handle
      integer(c_int) :: status
    end function pybridge_model_lorenz96

    function pybridge_model_two_scale_lorenz96(n_slow, n_fast, dt, forcing, h, b, c, handle) &
      & result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      integer(c_int), value :: n_slow, n_fast
      real(c_double), value :: dt, forcing, h, b, c
      type(c_ptr), intent(out) :: handle
      integer(c_int) :: status
    end function pybridge_model_two_scale_lorenz96

    function pybridge_model_recharge_oscillator(dt, parameters, handle) result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      real(c_double), value :: dt
      real(c_double), intent(in) :: parameters(7)
      type(c_ptr), intent(out) :: handle
      integer(c_int) :: status
    end function pybridge_model_recharge_oscillator

    function pybridge_model_user(n, n_parameters, parameters, dt, context, on_step, on_step_tl, &
      & on_step_ad, handle) result(status) bind(c)
      import :: c_double, c_funptr, c_int, c_ptr
      implicit none
      integer(c_int), value :: n, n_parameters
      real(c_double), intent(in) :: parameters(*)
      real(c_double), value :: dt
      type(c_ptr), value :: context
      type(c_funptr), value :: on_step, on_step_tl, on_step_ad
      type(c_ptr), intent(out) :: handle
      integer(c_int) :: status
    end function pybridge_model_user

    function pybridge_model_user_acknowledges(handle) result(status) bind(c)
      import :: c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int) :: status
    end function pybridge_model_user_acknowledges

    subroutine pybridge_model_free(handle) bind(c)
      import :: c_ptr
      implicit none
      type(c_ptr), value :: handle
    end subroutine pybridge_model_free

    function pybridge_model_sizes(handle, n, n_parameters, n_carry, dt) result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), intent(out) :: n, n_parameters, n_carry
      real(c_double), intent(out) :: dt
      integer(c_int) :: status
    end function pybridge_model_sizes

    function pybridge_model_parameters(handle, p) result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      real(c_double), intent(inout) :: p(*)
      integer(c_int) :: status
    end function pybridge_model_parameters

    function pybridge_model_workspace(handle, purpose, n_steps, n_members, n_threads) &
      & result(n_values) bind(c)
      import :: c_int, c_int64_t, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), value :: purpose, n_steps, n_members, n_threads
      integer(c_int64_t) :: n_values
    end function pybridge_model_workspace

    function pybridge_model_forecast(handle, k, n_steps, every, n_members, n_threads, p, x, &
      & trajectory, work, n_work, failed_member, failed_step) result(status) bind(c)
      import :: c_double, c_int, c_int64_t, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), value :: k, n_steps, every, n_members, n_threads
      real(c_double), intent(in), optional :: p(*)
      real(c_double), intent(inout) :: x(*)
      real(c_double), intent(inout), optional :: trajectory(*)
      real(c_double), intent(inout) :: work(*)
      integer(c_int64_t), value :: n_work
      integer(c_int), intent(out) :: failed_member, failed_step
      integer(c_int) :: status
    end function pybridge_model_forecast

    function pybridge_model_forecast_tl(handle, k, n_steps, n_members, n_threads, p, x, dp, dx, &
      & work, n_work, failed_member, failed_step) result(status) bind(c)
      import :: c_double, c_int, c_int64_t, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), value :: k, n_steps, n_members, n_threads
      real(c_double), intent(in), optional :: p(*)
      real(c_double), intent(in) :: x(*)
      real(c_double), intent(in), optional :: dp(*)
      real(c_double), intent(inout) :: dx(*)
      real(c_double), intent(inout) :: work(*)
      integer(c_int64_t), value :: n_work
      integer(c_int), intent(out) :: failed_member, failed_step
      integer(c_int) :: status
    end function pybridge_model_forecast_tl

    function pybridge_model_forecast_ad(handle, k, n_steps, n_members, n_threads, p, x, x_ad, &
      & p_ad, work, n_work, failed_member, failed_step) result(status) bind(c)
      import :: c_double, c_int, c_int64_t, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), value :: k, n_steps, n_members, n_threads
      real(c_double), intent(in), optional :: p(*)
      real(c_double), intent(in) :: x(*)
      real(c_double), intent(inout) :: x_ad(*)
      real(c_double), intent(inout), optional :: p_ad(*)
      real(c_double), intent(inout) :: work(*)
      integer(c_int64_t), value :: n_work
      integer(c_int), intent(out) :: failed_member, failed_step
      integer(c_int) :: status
    end function pybridge_model_forecast_ad

    ! ---- Networks ----

    function pybridge_network_from_file(path, handle, message, message_length) result(status) &
      & bind(c)
      import :: c_char, c_int, c_ptr
      implicit none
      character(kind=c_char), intent(in) :: path(*)
      type(c_ptr), intent(out) :: handle
      integer(c_int), value :: message_length
      character(kind=c_char), intent(inout) :: message(*)
      integer(c_int) :: status
    end function pybridge_network_from_file

    function pybridge_network_from_bytes(bytes, n_bytes, handle, message, message_length) &
      & result(status) bind(c)
      import :: c_char, c_int, c_int64_t, c_int8_t, c_ptr
      implicit none
      integer(c_int64_t), value :: n_bytes
      integer(c_int8_t), intent(in) :: bytes(*)
      type(c_ptr), intent(out) :: handle
      integer(c_int), value :: message_length
      character(kind=c_char), intent(inout) :: message(*)
      integer(c_int) :: status
    end function pybridge_network_from_bytes

    subroutine pybridge_network_free(handle) bind(c)
      import :: c_ptr
      implicit none
      type(c_ptr), value :: handle
    end subroutine pybridge_network_free

    function pybridge_network_sizes(handle, n_inputs, n_outputs, n_parameters) result(status) &
      & bind(c)
      import :: c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), intent(out) :: n_inputs, n_outputs, n_parameters
      integer(c_int) :: status
    end function pybridge_network_sizes

    function pybridge_network_linearisation_size(handle, nb) result(n) bind(c)
      import :: c_int, c_int64_t, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), value :: nb
      integer(c_int64_t) :: n
    end function pybridge_network_linearisation_size

    function pybridge_network_work_size(handle, nb) result(n) bind(c)
      import :: c_int, c_int64_t, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), value :: nb
      integer(c_int64_t) :: n
    end function pybridge_network_work_size

    function pybridge_network_parameters(handle, p) result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      real(c_double), intent(inout) :: p(*)
      integer(c_int) :: status
    end function pybridge_network_parameters

    function pybridge_network_set_parameters(handle, p) result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      real(c_double), intent(in) :: p(*)
      integer(c_int) :: status
    end function pybridge_network_set_parameters

    function pybridge_network_forward(handle, nb, p, x, y, linearisation, work) result(status) &
      & bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), value :: nb
      real(c_double), intent(in), optional :: p(*)
      real(c_double), intent(in) :: x(*)
      real(c_double), intent(inout) :: y(*), linearisation(*), work(*)
      integer(c_int) :: status
    end function pybridge_network_forward

    function pybridge_network_forward_tl(handle, nb, p, linearisation, dx, dp, dy, work) &
      & result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), value :: nb
      real(c_double), intent(in), optional :: p(*), dp(*)
      real(c_double), intent(in) :: linearisation(*), dx(*)
      real(c_double), intent(inout) :: dy(*), work(*)
      integer(c_int) :: status
    end function pybridge_network_forward_tl

    function pybridge_network_forward_ad(handle, nb, p, linearisation, y_ad, x_ad, p_ad, work) &
      & result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), value :: nb
      real(c_double), intent(in), optional :: p(*)
      real(c_double), intent(in) :: linearisation(*), y_ad(*)
      real(c_double), intent(inout) :: x_ad(*), work(*)
      real(c_double), intent(inout), optional :: p_ad(*)
      integer(c_int) :: status
    end function pybridge_network_forward_ad

    function pybridge_network_evaluate(handle, nb, x, y) result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), value :: nb
      real(c_double), intent(in) :: x(*)
      real(c_double), intent(inout) :: y(*)
      integer(c_int) :: status
    end function pybridge_network_evaluate

    function pybridge_network_evaluate_tl(handle, nb, x, dx, y, dy) result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), value :: nb
      real(c_double), intent(in) :: x(*), dx(*)
      real(c_double), intent(inout) :: y(*), dy(*)
      integer(c_int) :: status
    end function pybridge_network_evaluate_tl

    function pybridge_network_evaluate_ad(handle, nb, x, y_ad, y, x_ad) result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), value :: nb
      real(c_double), intent(in) :: x(*), y_ad(*)
      real(c_double), intent(inout) :: y(*), x_ad(*)
      integer(c_int) :: status
    end function pybridge_network_evaluate_ad

    function pybridge_network_self_test(handle, message, message_length) result(status) bind(c)
      import :: c_char, c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), value :: message_length
      character(kind=c_char), intent(inout) :: message(*)
      integer(c_int) :: status
    end function pybridge_network_self_test

    ! ---- Hybrid models ----

    function pybridge_model_hybrid(model, net, mode, every, n_fixed, fixed, n_periods, periods, &
      & handle, message, message_length) result(status) bind(c)
      import :: c_char, c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: model, net
      integer(c_int), value :: mode, every, n_fixed, n_periods
      real(c_double), intent(in) :: fixed(*), periods(*)
      type(c_ptr), intent(out) :: handle
      integer(c_int), value :: message_length
      character(kind=c_char), intent(inout) :: message(*)
      integer(c_int) :: status
    end function pybridge_model_hybrid

    ! ---- Covariances, observations, 4D-Var ----

    function pybridge_covariance_diagonal(n, sigma, handle) result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      integer(c_int), value :: n
      real(c_double), intent(in) :: sigma(*)
      type(c_ptr), intent(out) :: handle
      integer(c_int) :: status
    end function pybridge_covariance_diagonal

    function pybridge_covariance_full(n, matrix, handle) result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      integer(c_int), value :: n
      real(c_double), intent(in) :: matrix(*)
      type(c_ptr), intent(out) :: handle
      integer(c_int) :: status
    end function pybridge_covariance_full

    function pybridge_covariance_sizes(handle, n_state, n_control) result(status) bind(c)
      import :: c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), intent(out) :: n_state, n_control
      integer(c_int) :: status
    end function pybridge_covariance_sizes

    function pybridge_covariance_forward(handle, n_members, v, dx) result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), value :: n_members
      real(c_double), intent(in) :: v(*)
      real(c_double), intent(inout) :: dx(*)
      integer(c_int) :: status
    end function pybridge_covariance_forward

    function pybridge_covariance_forward_ad(handle, n_members, dx_ad, v_ad) result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), value :: n_members
      real(c_double), intent(in) :: dx_ad(*)
      real(c_double), intent(inout) :: v_ad(*)
      integer(c_int) :: status
    end function pybridge_covariance_forward_ad

    subroutine pybridge_covariance_free(handle) bind(c)
      import :: c_ptr
      implicit none
      type(c_ptr), value :: handle
    end subroutine pybridge_covariance_free

    function pybridge_observations_new(n_state, handle) result(status) bind(c)
      import :: c_int, c_ptr
      implicit none
      integer(c_int), value :: n_state
      type(c_ptr), intent(out) :: handle
      integer(c_int) :: status
    end function pybridge_observations_new

    function pybridge_observations_add_selection(handle, step, n, indices, sigma) &
      & result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), value :: step, n
      integer(c_int), intent(in) :: indices(*)
      real(c_double), intent(in) :: sigma(*)
      integer(c_int) :: status
    end function pybridge_observations_add_selection

    subroutine pybridge_observations_free(handle) bind(c)
      import :: c_ptr
      implicit none
      type(c_ptr), value :: handle
    end subroutine pybridge_observations_free

    function pybridge_fourdvar_new(model, covariance, observations, n_steps, n_outer, n_inner, &
      & n_step_reductions, reorthogonalise, gradient_tolerance, outer_tolerance, &
      & parameter_sigma, handle, message, length) result(status) bind(c)
      import :: c_char, c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: model, covariance, observations
      integer(c_int), value :: n_steps, n_outer, n_inner, n_step_reductions, reorthogonalise
      real(c_double), value :: gradient_tolerance, outer_tolerance
      real(c_double), intent(in), optional :: parameter_sigma(*)
      type(c_ptr), intent(out) :: handle
      character(kind=c_char), intent(inout) :: message(*)
      integer(c_int), value :: length
      integer(c_int) :: status
    end function pybridge_fourdvar_new

    function pybridge_fourdvar_set_observations(handle, observations, message, length) &
      & result(status) bind(c)
      import :: c_char, c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle, observations
      character(kind=c_char), intent(inout) :: message(*)
      integer(c_int), value :: length
      integer(c_int) :: status
    end function pybridge_fourdvar_set_observations

    function pybridge_fourdvar_sizes(handle, n_control, n_observations) result(status) bind(c)
      import :: c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), intent(out) :: n_control, n_observations
      integer(c_int) :: status
    end function pybridge_fourdvar_sizes

    function pybridge_fourdvar_analyse(handle, k, background, parameters, y, v, analysis, &
      & analysed_parameters, final, trajectory, failed_step) result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), value :: k
      real(c_double), intent(in) :: background(*)
      real(c_double), intent(in), optional :: parameters(*)
      real(c_double), intent(in) :: y(*)
      real(c_double), intent(inout) :: v(*)
      real(c_double), intent(inout) :: analysis(*), analysed_parameters(*), final(*)
      real(c_double), intent(inout), optional :: trajectory(*)
      integer(c_int), intent(out) :: failed_step
      integer(c_int) :: status
    end function pybridge_fourdvar_analyse

    function pybridge_fourdvar_history(handle, n_outer, converged, n_forward, n_tangent_linear, &
      & n_adjoint, jb, jo, step_length, n_inner, gradient_norm, inner_cost) result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), intent(out) :: n_outer, converged, n_forward, n_tangent_linear, n_adjoint
      real(c_double), intent(inout) :: jb(*), jo(*), step_length(*)
      integer(c_int), intent(inout) :: n_inner(*)
      real(c_double), intent(inout) :: gradient_norm(*), inner_cost(*)
      integer(c_int) :: status
    end function pybridge_fourdvar_history

    function pybridge_fourdvar_cost_and_gradient(handle, k, background, parameters, y, v, jb, &
      & jo, v_ad, failed_step) result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), value :: k
      real(c_double), intent(in) :: background(*)
      real(c_double), intent(in), optional :: parameters(*)
      real(c_double), intent(in) :: y(*)
      real(c_double), intent(in) :: v(*)
      real(c_double), intent(out) :: jb, jo
      real(c_double), intent(inout) :: v_ad(*)
      integer(c_int), intent(out) :: failed_step
      integer(c_int) :: status
    end function pybridge_fourdvar_cost_and_gradient

    function pybridge_fourdvar_observation_cost_and_gradient(handle, k, x, parameters, y, jo, &
      & x_ad, p_ad, failed_step) result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), value :: k
      real(c_double), intent(in) :: x(*)
      real(c_double), intent(in), optional :: parameters(*)
      real(c_double), intent(in) :: y(*)
      real(c_double), intent(out) :: jo
      real(c_double), intent(inout) :: x_ad(*), p_ad(*)
      integer(c_int), intent(out) :: failed_step
      integer(c_int) :: status
    end function pybridge_fourdvar_observation_cost_and_gradient

    function pybridge_fourdvar_hessian(handle, k, dv, h_v) result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      integer(c_int), value :: k
      real(c_double), intent(in) :: dv(*)
      real(c_double), intent(inout) :: h_v(*)
      integer(c_int) :: status
    end function pybridge_fourdvar_hessian

    function pybridge_fourdvar_to_physical(handle, background, parameters, v, x, p) &
      & result(status) bind(c)
      import :: c_double, c_int, c_ptr
      implicit none
      type(c_ptr), value :: handle
      real(c_double), intent(in) :: background(*)
      real(c_double), intent(in), optional :: parameters(*)
      real(c_double), intent(in) :: v(*)
      real(c_double), intent(inout) :: x(*), p(*)
      integer(c_int) :: status
    end function pybridge_fourdvar_to_physical

    subroutine pybridge_fourdvar_free(handle) bind(c)
      import :: c_ptr
      implicit none
      type(c_ptr), value :: handle
    end subroutine pybridge_fourdvar_free

  end interface

end module pybridge_interface
