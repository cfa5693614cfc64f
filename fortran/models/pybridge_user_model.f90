! SPDX-License-Identifier: MIT
!> A forecast model made of three procedures of the user's, with C linkage: from Fortran
!> (`bind(c)`), C, C++, or callbacks of Python.
module pybridge_user_model
  use, intrinsic :: iso_c_binding, only: c_associated, c_double, c_f_procpointer, c_funptr, c_int, &
    & c_null_ptr, c_ptr
  use pybridge_forecast_model, only: forecast_model
  use pybridge_kinds, only: rk
  use pybridge_status, only: status_not_available, status_ok, status_user_procedure
  implicit none
  private
  public :: user_model, new_user_model, user_step, user_step_tl, user_step_ad

  abstract interface

    !> Advance the state from time t by one time step.
    function user_step(context, k, t, n, n_parameters, p, x) result(status) bind(c)
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
    end function user_step

    !> Tangent linear about the state x before the step: dx <- (d/dx) dx + (d/dp) dp.
    function user_step_tl(context, k, t, n, n_parameters, p, x, dp, dx) result(status) bind(c)
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
    end function user_step_tl

    !> Adjoint: x_ad <- (d/dx)^T x_ad, p_ad <- p_ad + (d/dp)^T x_ad.
    function user_step_ad(context, k, t, n, n_parameters, p, x, x_ad, p_ad) result(status) bind(c)
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
    end function user_step_ad

  end interface

  !> The linearisation is the state before the step; work holds parameters nobody asked for.
  type, extends(forecast_model) :: user_model
    private
    type(c_ptr) :: context = c_null_ptr
    procedure(user_step), pointer, nopass :: on_step => null()
    procedure(user_step_tl), pointer, nopass :: on_step_tl => null()
    procedure(user_step_ad), pointer, nopass :: on_step_ad => null()
  contains
    procedure :: step
    procedure :: step_tl
    procedure :: step_ad
  end type user_model

contains

  function new_user_model(n, parameters, dt, context, on_step, on_step_tl, on_step_ad) &
    & result(model)
    !> Size of the state
    integer, intent(in) :: n
    !> Default parameters
    real(rk), intent(in) :: parameters(:)
    !> Time step
    real(rk), intent(in) :: dt
    !> Handed back to the procedures
    type(c_ptr), intent(in) :: context
    !> Procedures of the interfaces user_step, user_step_tl and user_step_ad; a model without the
    !> latter two (null pointers) can run, and has no derivatives
    type(c_funptr), intent(in) :: on_step
    type(c_funptr), intent(in) :: on_step_tl
    type(c_funptr), intent(in) :: on_step_ad
    type(user_model) :: model

    model%dt = dt
    model%context = context
    call c_f_procpointer(on_step, model%on_step)
    if (c_associated(on_step_tl)) call c_f_procpointer(on_step_tl, model%on_step_tl)
    if (c_associated(on_step_ad)) call c_f_procpointer(on_step_ad, model%on_step_ad)
    allocate (model%parameters, source=parameters)
    call model%set_sizes(n, size(parameters), n, size(parameters))
  end function new_user_model

  subroutine step(self, k, p, x, linearisation, work, status)
    class(user_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(inout) :: x(self%n)
    real(rk), intent(inout) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status

    associate (unused => work)
    end associate
    linearisation(:) = x
    status = outcome(self%on_step(self%context, k, k*self%dt, self%n, self%n_parameters, p, x))
  end subroutine step

  subroutine step_tl(self, k, p, linearisation, dx, work, status, dp)
    class(user_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: dx(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(in), optional :: dp(self%n_parameters)

    status = status_not_available
    if (.not. associated(self%on_step_tl)) return
    if (present(dp)) then
      work(:) = dp
    else
      work(:) = 0.0_rk
    end if
    status = outcome(self%on_step_tl(self%context, k, k*self%dt, self%n, self%n_parameters, p, &
      & linearisation, work, dx))
  end subroutine step_tl

  subroutine step_ad(self, k, p, linearisation, x_ad, work, status, p_ad)
    class(user_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: x_ad(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    status = status_not_available
    if (.not. associated(self%on_step_ad)) return
    work(:) = 0.0_rk
    status = outcome(self%on_step_ad(self%context, k, k*self%dt, self%n, self%n_parameters, p, &
      & linearisation, x_ad, work))
    if (present(p_ad)) p_ad = p_ad + work
  end subroutine step_ad

  !> The status code for what a user's procedure returned.
  pure function outcome(returned) result(status)
    integer(c_int), intent(in) :: returned
    integer :: status

    status = merge(status_ok, status_user_procedure, returned == 0)
  end function outcome

end module pybridge_user_model
