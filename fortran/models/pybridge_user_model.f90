! SPDX-License-Identifier: MIT
!> A forecast model made of three procedures of the user's, with C linkage: from Fortran
!> (`bind(c)`), C, C++, or callbacks of Python.
module pybridge_user_model
  use, intrinsic :: iso_c_binding, only: c_associated, c_double, c_f_procpointer, c_funptr, c_int, &
    & c_loc, c_null_ptr, c_ptr
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
    !> Whether procedures report success in an integer that they get in place of the context
    logical, public :: acknowledges = .false.
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

    integer(c_int), target :: done
    integer(c_int) :: returned

    associate (unused => work)
    end associate
    linearisation(:) = x
    done = 0
    returned = self%on_step(context(self, done), k, k*self%dt, self%n, self%n_parameters, p, x)
    status = outcome(self, returned, done)
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

    integer(c_int), target :: done
    integer(c_int) :: returned

    status = status_not_available
    if (.not. associated(self%on_step_tl)) return
    if (present(dp)) then
      work(:) = dp
    else
      work(:) = 0.0_rk
    end if
    done = 0
    returned = self%on_step_tl(context(self, done), k, k*self%dt, self%n, self%n_parameters, p, &
      & linearisation, work, dx)
    status = outcome(self, returned, done)
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

    integer(c_int), target :: done
    integer(c_int) :: returned

    status = status_not_available
    if (.not. associated(self%on_step_ad)) return
    work(:) = 0.0_rk
    done = 0
    returned = self%on_step_ad(context(self, done), k, k*self%dt, self%n, self%n_parameters, p, &
      & linearisation, x_ad, work)
    status = outcome(self, returned, done)
    if (present(p_ad)) p_ad = p_ad + work
  end subroutine step_ad

  !> What a procedure gets with a call.
  function context(self, done) result(pointer)
    class(user_model), intent(in) :: self
    !> Zero, which it may have to set to one
    integer(c_int), intent(inout), target :: done
    type(c_ptr) :: pointer

    pointer = self%context
    if (self%acknowledges) pointer = c_loc(done)
  end function context

  !> The status code for what a user's procedure returned or set.
  pure function outcome(self, returned, done) result(status)
    class(user_model), intent(in) :: self
    integer(c_int), intent(in) :: returned
    integer(c_int), intent(in) :: done
    integer :: status

    if (self%acknowledges) then
      status = merge(status_ok, status_user_procedure, done == 1)
    else
      status = merge(status_ok, status_user_procedure, returned == 0)
    end if
  end function outcome

end module pybridge_user_model
