! SPDX-License-Identifier: MIT
!> The C ABI of assimilation: background covariances, observations, 4D-Var. `pybridge.h` describes
!> each procedure for its callers.
module pybridge_assimilation_api
  use, intrinsic :: iso_c_binding, only: c_associated, c_char, c_double, c_f_pointer, c_int, &
    & c_loc, c_null_ptr, c_ptr
  use pybridge_background, only: background_covariance, diagonal_covariance, full_covariance, &
    & new_diagonal_covariance, new_full_covariance
  use pybridge_fourdvar, only: fourdvar, fourdvar_options, fourdvar_workspace, new_fourdvar
  use pybridge_kinds, only: rk
  use pybridge_model_api, only: model_handle
  use pybridge_observations, only: new_observation_set, observation_set
  use pybridge_status, only: describe_status, status_invalid_argument, status_null_handle, &
    & status_ok, status_out_of_memory
  use pybridge_text, only: put_status, put_text
  implicit none
  private
  public :: covariance_handle, fourdvar_handle, new_covariance_handle, observations_handle

  !> What an opaque pointer to a covariance points to
  type :: covariance_handle
    class(background_covariance), allocatable :: covariance
  end type covariance_handle

  !> What an opaque pointer to a layout of observations points to
  type :: observations_handle
    type(observation_set) :: observations
  end type observations_handle

  !> What an opaque pointer to a 4D-Var points to. It owns its workspace, and so serves one thread
  !> at a time.
  type :: fourdvar_handle
    type(fourdvar) :: problem
    type(fourdvar_workspace) :: workspace
  end type fourdvar_handle

contains

  !> A handle for any covariance, which is copied.
  function new_covariance_handle(covariance) result(handle)
    class(background_covariance), intent(in) :: covariance
    !> Null where memory ran out
    type(c_ptr) :: handle

    type(covariance_handle), pointer :: object
    integer :: stat

    handle = c_null_ptr
    allocate (object, stat=stat)
    if (stat /= 0) return
    allocate (object%covariance, source=covariance, stat=stat)
    if (stat /= 0) then
      deallocate (object)
      return
    end if
    handle = c_loc(object)
  end function new_covariance_handle

  function covariance_diagonal(n, sigma, handle) result(status) &
    & bind(c, name="pybridge_covariance_diagonal")
    integer(c_int), value :: n
    real(c_double), intent(in) :: sigma(*)
    type(c_ptr), intent(out) :: handle
    integer(c_int) :: status

    type(diagonal_covariance) :: covariance

    handle = c_null_ptr
    status = status_invalid_argument
    if (n < 1) return
    call new_diagonal_covariance(covariance, sigma(1:n), status)
    if (status /= status_ok) return
    handle = new_covariance_handle(covariance)
    if (.not. c_associated(handle)) status = status_out_of_memory
  end function covariance_diagonal

  function covariance_full(n, matrix, handle) result(status) &
    & bind(c, name="pybridge_covariance_full")
    integer(c_int), value :: n
    real(c_double), intent(in), target :: matrix(*)
    type(c_ptr), intent(out) :: handle
    integer(c_int) :: status

    type(full_covariance) :: covariance
    real(c_double), pointer :: square(:, :)

    handle = c_null_ptr
    status = status_invalid_argument
    if (n < 1) return
    call c_f_pointer(c_loc(matrix), square, [n, n])
    call new_full_covariance(covariance, square, status)
    if (status /= status_ok) return
    handle = new_covariance_handle(covariance)
    if (.not. c_associated(handle)) status = status_out_of_memory
  end function covariance_full

  function covariance_sizes(handle, n_state, n_control) result(status) &
    & bind(c, name="pybridge_covariance_sizes")
    type(c_ptr), value :: handle
    integer(c_int), intent(out) :: n_state, n_control
    integer(c_int) :: status

    type(covariance_handle), pointer :: object

    n_state = 0
    n_control = 0
    status = status_null_handle
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, object)
    n_state = object%covariance%n_state
    n_control = object%covariance%n_control
    status = status_ok
  end function covariance_sizes

  function covariance_forward(handle, n_members, v, dx) result(status) &
    & bind(c, name="pybridge_covariance_forward")
    type(c_ptr), value :: handle
    integer(c_int), value :: n_members
    real(c_double), intent(in) :: v(*)
    real(c_double), intent(inout) :: dx(*)
    integer(c_int) :: status

    type(covariance_handle), pointer :: object
    real(rk), allocatable :: work(:)
    integer :: i, j, member

    status = status_null_handle
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, object)
    allocate (work(object%covariance%n_work))
    do member = 1, n_members
      i = (member - 1)*object%covariance%n_control
      j = (member - 1)*object%covariance%n_state
      call object%covariance%forward(v(i + 1:i + object%covariance%n_control), &
        & dx(j + 1:j + object%covariance%n_state), work)
    end do
    status = status_ok
  end function covariance_forward

  function covariance_forward_ad(handle, n_members, dx_ad, v_ad) result(status) &
    & bind(c, name="pybridge_covariance_forward_ad")
    type(c_ptr), value :: handle
    integer(c_int), value :: n_members
    real(c_double), intent(in) :: dx_ad(*)
    real(c_double), intent(inout) :: v_ad(*)
    integer(c_int) :: status

    type(covariance_handle), pointer :: object
    real(rk), allocatable :: work(:)
    integer :: i, j, member

    status = status_null_handle
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, object)
    allocate (work(object%covariance%n_work))
    do member = 1, n_members
      i = (member - 1)*object%covariance%n_control
      j = (member - 1)*object%covariance%n_state
      call object%covariance%forward_ad(dx_ad(j + 1:j + object%covariance%n_state), &
        & v_ad(i + 1:i + object%covariance%n_control), work)
    end do
    status = status_ok
  end function covariance_forward_ad

  subroutine covariance_free(handle) bind(c, name="pybridge_covariance_free")
    type(c_ptr), value :: handle

    type(covariance_handle), pointer :: object

    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, object)
    deallocate (object)
  end subroutine covariance_free

  function observations_new(n_state, handle) result(status) &
    & bind(c, name="pybridge_observations_new")
    integer(c_int), value :: n_state
    type(c_ptr), intent(out) :: handle
    integer(c_int) :: status

    type(observations_handle), pointer :: object
    integer :: stat

    handle = c_null_ptr
    status = status_invalid_argument
    if (n_state < 1) return
    status = status_out_of_memory
    allocate (object, stat=stat)
    if (stat /= 0) return
    object%observations = new_observation_set(n_state)
    handle = c_loc(object)
    status = status_ok
  end function observations_new

  !> `indices` are counted from zero here, as everywhere in the C ABI.
  function observations_add_selection(handle, step, n, indices, sigma) result(status) &
    & bind(c, name="pybridge_observations_add_selection")
    type(c_ptr), value :: handle
    integer(c_int), value :: step, n
    integer(c_int), intent(in) :: indices(*)
    real(c_double), intent(in) :: sigma(*)
    integer(c_int) :: status

    type(observations_handle), pointer :: object

    status = status_null_handle
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, object)
    status = status_invalid_argument
    if (n < 0) return
    call object%observations%add_selection(step, indices(1:n) + 1, sigma(1:n), status)
  end function observations_add_selection

  subroutine observations_free(handle) bind(c, name="pybridge_observations_free")
    type(c_ptr), value :: handle

    type(observations_handle), pointer :: object

    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, object)
    deallocate (object)
  end subroutine observations_free

  !> The model must outlive the 4D-Var; covariance and observations are copied.
  function fourdvar_new(model, covariance, observations, n_steps, n_outer, n_inner, &
    & n_step_reductions, reorthogonalise, gradient_tolerance, outer_tolerance, parameter_sigma, &
    & handle, message, length) result(status) bind(c, name="pybridge_fourdvar_new")
    type(c_ptr), value :: model, covariance, observations
    integer(c_int), value :: n_steps, n_outer, n_inner, n_step_reductions, reorthogonalise
    real(c_double), value :: gradient_tolerance, outer_tolerance
    real(c_double), intent(in), optional :: parameter_sigma(*)
    type(c_ptr), intent(out) :: handle
    character(kind=c_char), intent(inout) :: message(*)
    integer(c_int), value :: length
    integer(c_int) :: status

    type(model_handle), pointer :: model_object
    type(covariance_handle), pointer :: covariance_object
    type(observations_handle), pointer :: observations_object
    type(fourdvar_handle), pointer :: object
    type(fourdvar_options) :: options
    character(len=:), allocatable :: text
    integer :: stat

    handle = c_null_ptr
    status = status_null_handle
    call put_status(status, message, length)
    if (.not. (c_associated(model) .and. c_associated(covariance) .and. &
      & c_associated(observations))) return
    call c_f_pointer(model, model_object)
    call c_f_pointer(covariance, covariance_object)
    call c_f_pointer(observations, observations_object)
    status = status_out_of_memory
    call put_status(status, message, length)
    allocate (object, stat=stat)
    if (stat /= 0) return

    options%n_outer = n_outer
    options%n_inner = n_inner
    options%n_step_reductions = n_step_reductions
    options%reorthogonalise = reorthogonalise /= 0
    options%gradient_tolerance = gradient_tolerance
    options%outer_tolerance = outer_tolerance
    if (present(parameter_sigma)) then
      call new_fourdvar(object%problem, model_object%model, n_steps, &
        & covariance_object%covariance, observations_object%observations, options, status, text, &
        & parameter_sigma(1:model_object%model%n_parameters))
    else
      call new_fourdvar(object%problem, model_object%model, n_steps, &
        & covariance_object%covariance, observations_object%observations, options, status, text)
    end if
    if (.not. allocated(text)) call describe_status(status, text)
    call put_text(text, message, length)
    if (status /= status_ok) then
      deallocate (object)
      return
    end if
    handle = c_loc(object)
  end function fourdvar_new

  function fourdvar_set_observations(handle, observations, message, length) result(status) &
    & bind(c, name="pybridge_fourdvar_set_observations")
    type(c_ptr), value :: handle, observations
    character(kind=c_char), intent(inout) :: message(*)
    integer(c_int), value :: length
    integer(c_int) :: status

    type(fourdvar_handle), pointer :: object
    type(observations_handle), pointer :: observations_object
    character(len=:), allocatable :: text

    status = status_null_handle
    call put_status(status, message, length)
    if (.not. (c_associated(handle) .and. c_associated(observations))) return
    call c_f_pointer(handle, object)
    call c_f_pointer(observations, observations_object)
    call object%problem%set_observations(observations_object%observations, status, text)
    ! What the last run left behind does not fit the new layout.
    if (allocated(object%workspace%z)) deallocate (object%workspace%z)
    if (.not. allocated(text)) call describe_status(status, text)
    call put_text(text, message, length)
  end function fourdvar_set_observations

  function fourdvar_sizes(handle, n_control, n_observations) result(status) &
    & bind(c, name="pybridge_fourdvar_sizes")
    type(c_ptr), value :: handle
    integer(c_int), intent(out) :: n_control, n_observations
    integer(c_int) :: status

    type(fourdvar_handle), pointer :: object

    n_control = 0
    n_observations = 0
    status = status_null_handle
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, object)
    n_control = object%problem%control%n_control
    n_observations = object%problem%forecast%observations%n_observations
    status = status_ok
  end function fourdvar_sizes

  function fourdvar_analyse(handle, k, background, parameters, y, v, analysis, &
    & analysed_parameters, final, trajectory, failed_step) result(status) &
    & bind(c, name="pybridge_fourdvar_analyse")
    type(c_ptr), value :: handle
    integer(c_int), value :: k
    real(c_double), intent(in) :: background(*)
    real(c_double), intent(in), optional, target :: parameters(*)
    real(c_double), intent(in) :: y(*)
    real(c_double), intent(inout) :: v(*)
    real(c_double), intent(inout) :: analysis(*), analysed_parameters(*), final(*)
    real(c_double), intent(inout), optional :: trajectory(*)
    integer(c_int), intent(out) :: failed_step
    integer(c_int) :: status

    type(fourdvar_handle), pointer :: object

    failed_step = 0
    status = status_null_handle
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, object)
    call object%problem%analyse(k, background, chosen(object, parameters), y, v, analysis, &
      & analysed_parameters, final, object%workspace, status, failed_step, trajectory)
  end function fourdvar_analyse

  !> What the last `analyse` left behind. The shapes follow from the options: jb and jo
  !> (n_outer + 1), steps and inner iterations (n_outer), the others (n_outer, n_inner + 1).
  function fourdvar_history_c(handle, n_outer, converged, n_forward, n_tangent_linear, n_adjoint, &
    & jb, jo, step_length, n_inner, gradient_norm, inner_cost) result(status) &
    & bind(c, name="pybridge_fourdvar_history")
    type(c_ptr), value :: handle
    integer(c_int), intent(out) :: n_outer, converged, n_forward, n_tangent_linear, n_adjoint
    real(c_double), intent(inout) :: jb(*), jo(*), step_length(*)
    integer(c_int), intent(inout) :: n_inner(*)
    real(c_double), intent(inout), target :: gradient_norm(*), inner_cost(*)
    integer(c_int) :: status

    type(fourdvar_handle), pointer :: object
    real(c_double), pointer :: norms(:, :), costs(:, :)
    integer :: n, outer

    n_outer = 0
    converged = 0
    n_forward = 0
    n_tangent_linear = 0
    n_adjoint = 0
    status = status_null_handle
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, object)
    n_forward = object%workspace%forecast%n_forward
    n_tangent_linear = object%workspace%forecast%n_tangent_linear
    n_adjoint = object%workspace%forecast%n_adjoint
    status = status_ok
    associate (history => object%workspace%history)
      if (.not. allocated(history%jb)) return
      n_outer = history%n_outer
      converged = merge(1, 0, history%converged)
      jb(1:n_outer + 1) = history%jb(0:n_outer)
      jo(1:n_outer + 1) = history%jo(0:n_outer)
      step_length(1:n_outer) = history%step_length(1:n_outer)
      n_inner(1:n_outer) = history%n_inner(1:n_outer)
      call c_f_pointer(c_loc(gradient_norm), norms, shape(history%gradient_norm))
      call c_f_pointer(c_loc(inner_cost), costs, shape(history%inner_cost))
      do outer = 1, n_outer
        n = n_inner(outer)
        norms(1:n + 1, outer) = history%gradient_norm(0:n, outer)
        costs(1:n + 1, outer) = history%inner_cost(0:n, outer)
      end do
    end associate
  end function fourdvar_history_c

  function fourdvar_cost_and_gradient(handle, k, background, parameters, y, v, jb, jo, v_ad, &
    & failed_step) result(status) bind(c, name="pybridge_fourdvar_cost_and_gradient")
    type(c_ptr), value :: handle
    integer(c_int), value :: k
    real(c_double), intent(in) :: background(*)
    real(c_double), intent(in), optional, target :: parameters(*)
    real(c_double), intent(in) :: y(*)
    real(c_double), intent(in) :: v(*)
    real(c_double), intent(out) :: jb, jo
    real(c_double), intent(inout) :: v_ad(*)
    integer(c_int), intent(out) :: failed_step
    integer(c_int) :: status

    type(fourdvar_handle), pointer :: object

    failed_step = 0
    jb = 0.0_c_double
    jo = 0.0_c_double
    status = status_null_handle
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, object)
    call object%problem%cost_and_gradient(k, background, chosen(object, parameters), y, v, &
      & object%workspace, jb, jo, v_ad, status, failed_step)
  end function fourdvar_cost_and_gradient

  function fourdvar_observation_cost_and_gradient(handle, k, x, parameters, y, jo, x_ad, p_ad, &
    & failed_step) result(status) &
    & bind(c, name="pybridge_fourdvar_observation_cost_and_gradient")
    type(c_ptr), value :: handle
    integer(c_int), value :: k
    real(c_double), intent(in) :: x(*)
    real(c_double), intent(in), optional, target :: parameters(*)
    real(c_double), intent(in) :: y(*)
    real(c_double), intent(out) :: jo
    real(c_double), intent(inout) :: x_ad(*), p_ad(*)
    integer(c_int), intent(out) :: failed_step
    integer(c_int) :: status

    type(fourdvar_handle), pointer :: object

    failed_step = 0
    jo = 0.0_c_double
    status = status_null_handle
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, object)
    call object%problem%observation_cost_and_gradient(k, x, chosen(object, parameters), y, &
      & object%workspace, jo, x_ad, p_ad, status, failed_step)
  end function fourdvar_observation_cost_and_gradient

  !> The Gauss-Newton Hessian about the point of the last `cost_and_gradient`, whose `k` is given
  !> again.
  function fourdvar_hessian(handle, k, dv, h_v) result(status) &
    & bind(c, name="pybridge_fourdvar_hessian")
    type(c_ptr), value :: handle
    integer(c_int), value :: k
    real(c_double), intent(in) :: dv(*)
    real(c_double), intent(inout) :: h_v(*)
    integer(c_int) :: status

    type(fourdvar_handle), pointer :: object

    status = status_null_handle
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, object)
    status = status_invalid_argument
    if (.not. allocated(object%workspace%z)) return
    call object%problem%hessian(k, dv, h_v, object%workspace, status)
  end function fourdvar_hessian

  !> State and parameters at a control vector.
  function fourdvar_to_physical(handle, background, parameters, v, x, p) result(status) &
    & bind(c, name="pybridge_fourdvar_to_physical")
    type(c_ptr), value :: handle
    real(c_double), intent(in) :: background(*)
    real(c_double), intent(in), optional, target :: parameters(*)
    real(c_double), intent(in) :: v(*)
    real(c_double), intent(inout) :: x(*), p(*)
    integer(c_int) :: status

    type(fourdvar_handle), pointer :: object

    status = status_null_handle
    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, object)
    call object%workspace%prepare(object%problem)
    call object%problem%to_physical(background, chosen(object, parameters), v, object%workspace)
    x(1:object%problem%forecast%model%n_state) = &
      & object%workspace%z(1:object%problem%forecast%model%n_state)
    p(1:object%problem%forecast%model%n_parameters) = object%workspace%p
    status = status_ok
  end function fourdvar_to_physical

  subroutine fourdvar_free(handle) bind(c, name="pybridge_fourdvar_free")
    type(c_ptr), value :: handle

    type(fourdvar_handle), pointer :: object

    if (.not. c_associated(handle)) return
    call c_f_pointer(handle, object)
    deallocate (object)
  end subroutine fourdvar_free

  !> The parameters handed over, or the model's own.
  function chosen(object, p) result(p_used)
    type(fourdvar_handle), intent(in) :: object
    real(c_double), intent(in), optional, target :: p(*)
    real(c_double), pointer :: p_used(:)

    p_used => object%problem%forecast%model%parameters
    if (present(p)) call c_f_pointer(c_loc(p), p_used, &
      & [object%problem%forecast%model%n_parameters])
  end function chosen

end module pybridge_assimilation_api
