! SPDX-License-Identifier: MIT
!> The abstract forecast model: one time step with its tangent linear and adjoint.
!>
!> A model object holds its configuration only and is `intent(in)` everywhere, so one model serves
!> many threads. State, parameters, linearisation and workspace are arguments.
!>
!> `step` writes into `linearisation` all that `step_tl` and `step_ad` need afterwards. A caller
!> that wants the nonlinear forecast alone hands over the same buffer at every step; a caller that
!> wants derivatives keeps one buffer a step.
!>
!> A model may integrate more than its state: `n = n_state + n_carry`. The carried part (a forcing
!> held constant through a window, the memory of a recurrent network) is set by `start` from the
!> state at the beginning of a run, and is invisible to assimilation, which controls the state.
module pybridge_forecast_model
  use pybridge_kinds, only: rk
  use pybridge_status, only: status_ok
  use pybridge_tendency, only: tendency_term
  implicit none
  private
  public :: forecast_model

  type, abstract :: forecast_model
    !> Values that one step integrates: the state, then what is carried along
    integer :: n = 0
    !> Size of the state
    integer :: n_state = 0
    !> Size of the parameter vector
    integer :: n_parameters = 0
    !> Values that `step` records for its linearisation
    integer :: n_linearisation = 0
    !> Values of scratch space for `step`, `step_tl` and `step_ad`
    integer :: n_work = 0
    !> Time step, in the model's unit of time
    real(rk) :: dt = 0.0_rk
    !> A state with a larger absolute value anywhere counts as blown up
    real(rk) :: blow_up_limit = 1.0e30_rk
    !> Default parameter vector, shape (n_parameters)
    real(rk), allocatable :: parameters(:)
  contains
    procedure(step_interface), deferred :: step
    procedure(step_tl_interface), deferred :: step_tl
    procedure(step_ad_interface), deferred :: step_ad
    procedure :: start
    procedure :: start_tl
    procedure :: start_ad
    procedure :: get_tendency
    procedure :: set_sizes
  end type forecast_model

  abstract interface

    !> Advance the state by one time step, from time `k*dt` to `(k+1)*dt`.
    subroutine step_interface(self, k, p, x, linearisation, work, status)
      import :: forecast_model, rk
      implicit none
      class(forecast_model), intent(in) :: self
      !> Number of the step: steps since time zero
      integer, intent(in) :: k
      !> Parameters
      real(rk), intent(in) :: p(self%n_parameters)
      !> State (and carried values), before and after the step
      real(rk), intent(inout) :: x(self%n)
      !> Record for `step_tl` and `step_ad`
      real(rk), intent(inout) :: linearisation(self%n_linearisation)
      !> Scratch space
      real(rk), intent(inout) :: work(self%n_work)
      !> Zero, or a code of `pybridge_status`
      integer, intent(out) :: status
    end subroutine step_interface

    !> Tangent linear of `step`: `dx <- (d step/dx) dx + (d step/dp) dp`.
    subroutine step_tl_interface(self, k, p, linearisation, dx, work, status, dp)
      import :: forecast_model, rk
      implicit none
      class(forecast_model), intent(in) :: self
      integer, intent(in) :: k
      real(rk), intent(in) :: p(self%n_parameters)
      !> What `step` recorded
      real(rk), intent(in) :: linearisation(self%n_linearisation)
      !> Perturbation of the state, before and after the step
      real(rk), intent(inout) :: dx(self%n)
      real(rk), intent(inout) :: work(self%n_work)
      integer, intent(out) :: status
      !> Perturbation of the parameters; absent means zero
      real(rk), intent(in), optional :: dp(self%n_parameters)
    end subroutine step_tl_interface

    !> Adjoint of `step`: `x_ad <- (d step/dx)^T x_ad`, `p_ad <- p_ad + (d step/dp)^T x_ad`.
    subroutine step_ad_interface(self, k, p, linearisation, x_ad, work, status, p_ad)
      import :: forecast_model, rk
      implicit none
      class(forecast_model), intent(in) :: self
      integer, intent(in) :: k
      real(rk), intent(in) :: p(self%n_parameters)
      !> What `step` recorded
      real(rk), intent(in) :: linearisation(self%n_linearisation)
      !> Adjoint of the state, after (on entry) and before (on return) the step
      real(rk), intent(inout) :: x_ad(self%n)
      real(rk), intent(inout) :: work(self%n_work)
      integer, intent(out) :: status
      !> Adjoint of the parameters, accumulated; absent means not wanted
      real(rk), intent(inout), optional :: p_ad(self%n_parameters)
    end subroutine step_ad_interface

  end interface

contains

  !> Set the carried values `x(n_state+1:n)` at the beginning of a run. A model that carries
  !> nothing inherits this one, which does nothing.
  subroutine start(self, k, p, x, linearisation, work, status)
    class(forecast_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(inout) :: x(self%n)
    real(rk), intent(inout) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status

    associate (unused_k => k, unused_p => p, unused_x => x, &
      & unused_linearisation => linearisation, unused_work => work)
    end associate
    status = status_ok
  end subroutine start

  !> Tangent linear of `start`.
  subroutine start_tl(self, k, p, linearisation, dx, work, status, dp)
    class(forecast_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: dx(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(in), optional :: dp(self%n_parameters)

    associate (unused_k => k, unused_p => p, unused_linearisation => linearisation, &
      & unused_dx => dx, unused_work => work)
    end associate
    if (present(dp)) continue
    status = status_ok
  end subroutine start_tl

  !> Adjoint of `start`: moves the carried part of `x_ad` into its state part, and clears it.
  subroutine start_ad(self, k, p, linearisation, x_ad, work, status, p_ad)
    class(forecast_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: x_ad(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    associate (unused_k => k, unused_p => p, unused_linearisation => linearisation, &
      & unused_x_ad => x_ad, unused_work => work)
    end associate
    if (present(p_ad)) continue
    status = status_ok
  end subroutine start_ad

  !> The tendency that the model integrates by the Runge-Kutta scheme, for who wants to add to it. A
  !> model of another kind inherits this one, which gives none. (Asking the model for its type would
  !> not do: a type of a library that holds a copy of this one is another type.)
  subroutine get_tendency(self, tendency)
    class(forecast_model), intent(in) :: self
    !> Not allocated where there is none
    class(tendency_term), allocatable, intent(out) :: tendency

    associate (unused => self)
    end associate
    if (allocated(tendency)) continue
  end subroutine get_tendency

  !> Set the sizes that callers read. To be called once, when the model is made.
  pure subroutine set_sizes(self, n_state, n_parameters, n_linearisation, n_work, n_carry)
    class(forecast_model), intent(inout) :: self
    integer, intent(in) :: n_state
    integer, intent(in) :: n_parameters
    integer, intent(in) :: n_linearisation
    integer, intent(in) :: n_work
    !> Carried values beside the state; none by default
    integer, intent(in), optional :: n_carry

    self%n_state = n_state
    self%n = n_state
    if (present(n_carry)) self%n = n_state + n_carry
    self%n_parameters = n_parameters
    self%n_linearisation = n_linearisation
    self%n_work = n_work
  end subroutine set_sizes

end module pybridge_forecast_model
