! SPDX-License-Identifier: MIT
!> Incremental strong-constraint 4D-Var (Courtier, Thepaut and Hollingsworth 1994) over any
!> forecast model.
!>
!> The cost function of the control vector v, whose blocks are the state at the window's start
!> and, where wanted, parameters of the model, is
!>
!>     J(v) = Jb + Jo = 1/2 |v|^2 + 1/2 |R^{-1/2} (y - G(z_b + U v))|^2
!>
!> with the background z_b, the control-variable transform U, and the model's equivalents G of the
!> observations y. Each outer iteration linearises G about the best v so far and minimises the
!> quadratic function that results; a step search on J itself then guarantees that J never grows.
module pybridge_fourdvar
  use pybridge_background, only: background_covariance, diagonal_covariance, &
    & new_diagonal_covariance
  use pybridge_control_vector, only: control_vector
  use pybridge_forecast_model, only: forecast_model
  use pybridge_finite, only: is_bounded
  use pybridge_kinds, only: rk
  use pybridge_linear_algebra, only: dot
  use pybridge_minimiser, only: conjugate_gradients, linear_operator, minimiser_workspace
  use pybridge_observations, only: observation_set
  use pybridge_observed_forecast, only: forecast_workspace, observed_forecast
  use pybridge_status, only: status_blow_up, status_invalid_argument, status_not_converged, &
    & status_observation, status_ok, status_wrong_shape
  implicit none
  private
  public :: fourdvar, fourdvar_history, fourdvar_options, fourdvar_workspace, new_fourdvar

  type :: fourdvar_options
    !> Most outer iterations, each a linearisation
    integer :: n_outer = 3
    !> Most inner iterations, each a tangent linear and an adjoint run, of an outer one
    integer :: n_inner = 50
    !> Inner iterations stop when the gradient norm is below this times that at their start
    real(rk) :: gradient_tolerance = 1.0e-3_rk
    !> Outer iterations stop when a step's norm in control space is below this times that of the
    !> control vector (of one, where that is larger)
    real(rk) :: outer_tolerance = 0.0_rk
    !> Most reductions of a step that does not reduce J
    integer :: n_step_reductions = 10
    !> Reorthogonalise the conjugate gradients' residuals
    logical :: reorthogonalise = .false.
  end type fourdvar_options

  !> Configuration of one kind of window. The model must outlive it.
  type :: fourdvar
    type(observed_forecast) :: forecast
    !> Blocks "state" and, where parameters are controlled, "parameters"
    type(control_vector) :: control
    type(fourdvar_options) :: options
    !> Parameters in the control vector, counted from one, in the order of their block
    integer, allocatable :: parameter_indices(:)
  contains
    procedure :: set_observations
    procedure :: analyse
    procedure :: to_physical
    procedure :: cost
    procedure :: cost_and_gradient
    procedure :: observation_cost_and_gradient
    procedure :: gradient
    procedure :: hessian
  end type fourdvar

  !> How a minimisation went.
  type :: fourdvar_history
    !> Outer iterations made
    integer :: n_outer = 0
    !> Whether the last step was within `outer_tolerance`
    logical :: converged = .false.
    !> Background and observation term at the start (0) and after each outer iteration
    real(rk), allocatable :: jb(:), jo(:)
    !> Inner iterations of each outer iteration
    integer, allocatable :: n_inner(:)
    !> Norm of the gradient in control space, (inner iteration from 0, outer iteration)
    real(rk), allocatable :: gradient_norm(:, :)
    !> The quadratic function, (inner iteration from 0, outer iteration)
    real(rk), allocatable :: inner_cost(:, :)
    !> Length of the step taken, in units of the inner minimisation's
    real(rk), allocatable :: step_length(:)
  end type fourdvar_history

  !> All that changes while a window is analysed. Owned by the caller, one a thread, reused from
  !> window to window: nothing is allocated after the first.
  type :: fourdvar_workspace
    type(fourdvar_history) :: history
    type(forecast_workspace) :: forecast
    type(minimiser_workspace) :: minimiser
    !> Background, the point of the last run, and its difference, in physical space
    real(rk), allocatable :: z(:), dz(:)
    !> Parameters of the last run, their perturbation and adjoint
    real(rk), allocatable :: p(:), dp(:), p_ad(:)
    !> Equivalents of the observations, their perturbation or adjoint
    real(rk), allocatable :: y(:), dy(:)
    !> Whitened departures of the last run, and a whitened perturbation
    real(rk), allocatable :: w(:), dw(:)
    !> Control space: right-hand side, step, trial
    real(rk), allocatable :: b(:), dv(:), v_trial(:)
    !> Scratch space of the covariances
    real(rk), allocatable :: control_work(:)
  contains
    procedure :: prepare
  end type fourdvar_workspace

  !> The Hessian of the quadratic function about the last run.
  type, extends(linear_operator) :: hessian_operator
    class(fourdvar), pointer :: problem => null()
    type(fourdvar_workspace), pointer :: workspace => null()
    !> Number of the window's first step
    integer :: k = 0
  contains
    procedure :: apply => hessian_apply
  end type hessian_operator

  !> A rise of J smaller than this times J is taken for rounding error
  real(rk), parameter :: rounding = 64.0_rk*epsilon(1.0_rk)
  !> Part of the decrease promised by the gradient that a step must reach (Armijo 1966)
  real(rk), parameter :: sufficient = 1.0e-4_rk
  !> Least and largest reduction of a step at a time
  real(rk), parameter :: least_reduction = 0.5_rk, largest_reduction = 0.1_rk

contains

  !> Make a 4D-Var. Covariance and observations' layout are copied; the model is referred to.
  subroutine new_fourdvar(problem, model, n_steps, covariance, observations, options, status, &
    & message, parameter_sigma)
    type(fourdvar), intent(out) :: problem
    !> Forecast model
    class(forecast_model), intent(in), target :: model
    !> Steps in the window
    integer, intent(in) :: n_steps
    !> Background error covariance of the state
    class(background_covariance), intent(in) :: covariance
    !> Layout of the observations
    type(observation_set), intent(in) :: observations
    !> Options
    type(fourdvar_options), intent(in) :: options
    !> `status_invalid_argument`, `status_wrong_shape`, `status_observation`
    integer, intent(out) :: status
    !> What is wrong, when something is
    character(len=:), allocatable, intent(out) :: message
    !> Background error standard deviations of the parameters, shape (n_parameters): zero keeps
    !> one fixed. Absent keeps all fixed.
    real(rk), intent(in), optional :: parameter_sigma(:)

    type(diagonal_covariance) :: parameter_covariance
    integer :: i

    status = status_invalid_argument
    if (n_steps < 0) then
      message = "a window has at least 0 steps"
    else if (options%n_outer < 1) then
      message = "there is at least 1 outer iteration"
    else if (options%n_inner < 1) then
      message = "there is at least 1 inner iteration"
    else if (options%n_step_reductions < 0) then
      message = "the number of step reductions is at least 0"
    else if (.not. (options%gradient_tolerance >= 0.0_rk &
      & .and. options%gradient_tolerance < 1.0_rk)) then
      message = "the gradient tolerance lies between 0 and 1"
    else if (.not. options%outer_tolerance >= 0.0_rk) then
      message = "the outer tolerance is at least 0"
    end if
    if (allocated(message)) return
    if (covariance%n_state /= model%n_state) then
      status = status_wrong_shape
      message = "the covariance's size is not that of the model's state"
      return
    end if

    problem%forecast%model => model
    problem%forecast%n_steps = n_steps
    problem%options = options
    call problem%control%add("state", covariance, status)
    allocate (problem%parameter_indices(0))
    if (present(parameter_sigma)) then
      if (size(parameter_sigma) /= model%n_parameters) then
        status = status_wrong_shape
        message = "there is one parameter error for each of the model's parameters"
        return
      end if
      if (.not. all(parameter_sigma >= 0.0_rk .and. parameter_sigma <= huge(1.0_rk))) then
        status = status_invalid_argument
        message = "parameter errors are finite and not negative"
        return
      end if
      problem%parameter_indices = pack([(i, i=1, model%n_parameters)], parameter_sigma > 0.0_rk)
      if (size(problem%parameter_indices) > 0) then
        call new_diagonal_covariance(parameter_covariance, &
          & parameter_sigma(problem%parameter_indices), status)
        call problem%control%add("parameters", parameter_covariance, status)
      end if
    end if
    call problem%set_observations(observations, status, message)
  end subroutine new_fourdvar

  !> Replace the observations' layout.
  subroutine set_observations(self, observations, status, message)
    class(fourdvar), intent(inout) :: self
    !> Layout of the observations, copied
    type(observation_set), intent(in) :: observations
    !> `status_wrong_shape`, or `status_observation` when one lies beyond the window
    integer, intent(out) :: status
    !> What is wrong, when something is
    character(len=:), allocatable, intent(out) :: message

    if (observations%n_state /= self%forecast%model%n_state) then
      status = status_wrong_shape
      message = "the observations' state is not of the model's size"
    else if (observations%last_step > self%forecast%n_steps) then
      status = status_observation
      message = "an observation lies beyond the window's last step"
    else
      status = status_ok
      self%forecast%observations = observations
    end if
  end subroutine set_observations

  !> Allocate for a problem, unless that is done already.
  subroutine prepare(self, problem)
    class(fourdvar_workspace), intent(inout) :: self
    !> The problem it will serve
    class(fourdvar), intent(in) :: problem

    integer :: n_inner, n_outer

    call self%forecast%prepare(problem%forecast)
    n_inner = problem%options%n_inner
    n_outer = problem%options%n_outer
    call self%minimiser%prepare(problem%control%n_control, n_inner, &
      & problem%options%reorthogonalise, preconditioned=.false.)
    call resize(self%z, problem%control%n_physical)
    call resize(self%dz, problem%control%n_physical)
    call resize(self%p, problem%forecast%model%n_parameters)
    call resize(self%dp, problem%forecast%model%n_parameters)
    call resize(self%p_ad, problem%forecast%model%n_parameters)
    call resize(self%y, problem%forecast%observations%n_observations)
    call resize(self%dy, problem%forecast%observations%n_observations)
    call resize(self%w, problem%forecast%observations%n_observations)
    call resize(self%dw, problem%forecast%observations%n_observations)
    call resize(self%b, problem%control%n_control)
    call resize(self%dv, problem%control%n_control)
    call resize(self%v_trial, problem%control%n_control)
    call resize(self%control_work, problem%control%n_work)
    associate (history => self%history)
      if (allocated(history%gradient_norm)) then
        if (all(shape(history%gradient_norm) == [n_inner + 1, n_outer])) return
        deallocate (history%jb, history%jo, history%n_inner, history%gradient_norm, &
          & history%inner_cost, history%step_length)
      end if
      allocate (history%jb(0:n_outer), history%jo(0:n_outer), history%step_length(n_outer), &
        & source=0.0_rk)
      allocate (history%gradient_norm(0:n_inner, n_outer), &
        & history%inner_cost(0:n_inner, n_outer), source=0.0_rk)
      allocate (history%n_inner(n_outer), source=0)
    end associate
  end subroutine prepare

  !> Give a buffer its size. Its contents then are zero.
  subroutine resize(buffer, n)
    real(rk), allocatable, intent(inout) :: buffer(:)
    integer, intent(in) :: n

    if (allocated(buffer)) then
      if (size(buffer) == n) return
      deallocate (buffer)
    end if
    allocate (buffer(n), source=0.0_rk)
  end subroutine resize

  !> Analyse a window: minimise J, from the control vector given.
  subroutine analyse(self, k, x_b, p_b, y, v, x_a, p_a, x_end, workspace, status, failed_step, &
    & trajectory)
    class(fourdvar), intent(in), target :: self
    !> Number of the window's first step: steps since time zero
    integer, intent(in) :: k
    !> Background state at the window's start
    real(rk), intent(in) :: x_b(self%forecast%model%n_state)
    !> Background parameters
    real(rk), intent(in) :: p_b(self%forecast%model%n_parameters)
    !> Observations
    real(rk), intent(in) :: y(self%forecast%observations%n_observations)
    !> Control vector: on entry the first guess (zero is the background), on return the analysis
    real(rk), intent(inout) :: v(self%control%n_control)
    !> Analysed state at the window's start
    real(rk), intent(out) :: x_a(self%forecast%model%n_state)
    !> Analysed parameters
    real(rk), intent(out) :: p_a(self%forecast%model%n_parameters)
    !> Analysed trajectory's end
    real(rk), intent(out) :: x_end(self%forecast%model%n_state)
    !> Workspace, with the history on return
    type(fourdvar_workspace), intent(inout), target :: workspace
    !> `status_not_converged` when a linearised problem's solution did not lead to a smaller J:
    !> the best found is returned. `status_blow_up` when the model fails from the first guess,
    !> `status_observation` when an observation is not finite: nothing is returned.
    integer, intent(out) :: status
    !> Step of the window at which the model failed
    integer, intent(out) :: failed_step
    !> Analysed states at the window's start and after each step; absent means not wanted
    real(rk), intent(out), optional :: trajectory(self%forecast%model%n_state, &
      & 0:self%forecast%n_steps)

    type(conjugate_gradients) :: minimiser
    type(hessian_operator) :: operator
    integer :: i, n, n_state, outer, run_status
    logical :: accepted
    real(rk) :: jb, jo, length, slope

    call workspace%prepare(self)
    workspace%forecast%n_forward = 0
    workspace%forecast%n_tangent_linear = 0
    workspace%forecast%n_adjoint = 0
    failed_step = 0
    n = self%control%n_control
    n_state = self%forecast%model%n_state
    minimiser%max_iterations = self%options%n_inner
    minimiser%tolerance = self%options%gradient_tolerance
    minimiser%reorthogonalise = self%options%reorthogonalise
    operator%n = n
    operator%problem => self
    operator%workspace => workspace
    operator%k = k

    associate (history => workspace%history)
      history%n_outer = 0
      history%converged = .false.
      status = status_observation
      if (.not. is_bounded(size(y), y, huge(1.0_rk))) return
      call self%cost(k, x_b, p_b, y, v, workspace, jb, jo, status, failed_step)
      if (status /= status_ok) return
      if (.not. jb + jo <= huge(1.0_rk)) then
        status = status_blow_up
        return
      end if
      history%jb(0) = jb
      history%jo(0) = jo

      do outer = 1, self%options%n_outer
        call self%gradient(k, v, workspace, workspace%b, status)
        if (status /= status_ok) exit
        do i = 1, n
          workspace%b(i) = -workspace%b(i)
        end do
        call minimiser%minimise(operator, workspace%b, workspace%dv, workspace%minimiser, &
          & run_status)
        history%n_outer = outer
        history%jb(outer) = jb
        history%jo(outer) = jo
        history%step_length(outer) = 0.0_rk
        history%n_inner(outer) = workspace%minimiser%n_iterations
        do i = 0, workspace%minimiser%n_iterations
          history%gradient_norm(i, outer) = workspace%minimiser%gradient_norm(i)
          history%inner_cost(i, outer) = jb + jo + workspace%minimiser%decrease(i)
        end do
        if (workspace%minimiser%n_iterations == 0) then
          ! At the minimum already, or no step was found at all.
          history%converged = workspace%minimiser%converged
          status = run_status
          exit
        end if

        slope = -dot(n, workspace%b, workspace%dv)
        call search(slope, length, accepted)
        if (.not. accepted) then
          status = status_not_converged
          exit
        end if
        history%jb(outer) = jb
        history%jo(outer) = jo
        history%step_length(outer) = length
        status = run_status
        if (status /= status_ok) exit
        if (length*sqrt(dot(n, workspace%dv, workspace%dv)) <= self%options%outer_tolerance &
          & *max(1.0_rk, sqrt(dot(n, v, v)))) then
          history%converged = .true.
          exit
        end if
      end do
    end associate

    ! A step search that failed has left the run of a state that was refused.
    if (present(trajectory) .or. status /= status_ok) then
      call self%cost(k, x_b, p_b, y, v, workspace, jb, jo, run_status, failed_step, trajectory)
      failed_step = 0
    end if
    x_a = workspace%z(1:n_state)
    p_a = workspace%p
    x_end = workspace%forecast%x(1:n_state)

  contains

    !> Search along `dv` for a smaller J; on success v, jb and jo are those found.
    subroutine search(slope, length, accepted)
      !> Derivative of J along the step, at its start
      real(rk), intent(in) :: slope
      !> Step length accepted
      real(rk), intent(out) :: length
      !> Whether there was one
      logical, intent(out) :: accepted

      integer :: reduction, trial_status
      real(rk) :: factor, j_start, j_trial, trial_jb, trial_jo

      accepted = .false.
      length = 1.0_rk
      j_start = jb + jo
      if (.not. slope < 0.0_rk) return
      do reduction = 0, self%options%n_step_reductions
        do i = 1, n
          workspace%v_trial(i) = v(i) + length*workspace%dv(i)
        end do
        call self%cost(k, x_b, p_b, y, workspace%v_trial, workspace, trial_jb, trial_jo, &
          & trial_status, failed_step)
        failed_step = 0
        j_trial = trial_jb + trial_jo
        ! A model that blows up there stands for an infinite J.
        if (trial_status /= status_ok .or. .not. j_trial <= huge(1.0_rk)) then
          factor = least_reduction
        else if (j_trial <= j_start + sufficient*length*slope + rounding*j_start) then
          accepted = .true.
          do i = 1, n
            v(i) = workspace%v_trial(i)
          end do
          jb = trial_jb
          jo = trial_jo
          return
        else
          ! The minimum of the parabola through J, its slope, and J at the trial
          factor = -0.5_rk*slope*length/(j_trial - j_start - slope*length)
          factor = min(least_reduction, max(largest_reduction, factor))
        end if
        length = factor*length
      end do
    end subroutine search

  end subroutine analyse

  !> The cost function by a nonlinear run, which leaves its linearisation in the workspace.
  subroutine cost(self, k, x_b, p_b, y, v, workspace, jb, jo, status, failed_step, trajectory)
    class(fourdvar), intent(in) :: self
    !> Number of the window's first step
    integer, intent(in) :: k
    !> Background state
    real(rk), intent(in) :: x_b(self%forecast%model%n_state)
    !> Background parameters
    real(rk), intent(in) :: p_b(self%forecast%model%n_parameters)
    !> Observations
    real(rk), intent(in) :: y(self%forecast%observations%n_observations)
    !> Control vector
    real(rk), intent(in) :: v(self%control%n_control)
    !> Prepared workspace
    type(fourdvar_workspace), intent(inout) :: workspace
    !> Background term
    real(rk), intent(out) :: jb
    !> Observation term
    real(rk), intent(out) :: jo
    !> Zero, or what the run reported
    integer, intent(out) :: status
    !> Step of the window at which it failed
    integer, intent(out) :: failed_step
    !> States at the window's start and after each step; absent means not wanted
    real(rk), intent(out), optional :: trajectory(self%forecast%model%n_state, &
      & 0:self%forecast%n_steps)

    call self%to_physical(x_b, p_b, v, workspace)
    jb = 0.5_rk*dot(self%control%n_control, v, v)
    call observation_cost(self, k, y, workspace, jo, status, failed_step, trajectory)
  end subroutine cost

  !> State and parameters at a control vector, left in the workspace (z, p).
  subroutine to_physical(self, x_b, p_b, v, workspace)
    class(fourdvar), intent(in) :: self
    !> Background state
    real(rk), intent(in) :: x_b(self%forecast%model%n_state)
    !> Background parameters
    real(rk), intent(in) :: p_b(self%forecast%model%n_parameters)
    !> Control vector
    real(rk), intent(in) :: v(self%control%n_control)
    !> Prepared workspace
    type(fourdvar_workspace), intent(inout) :: workspace

    integer :: i, n_state

    n_state = self%forecast%model%n_state
    call self%control%forward(v, workspace%z, workspace%control_work)
    do i = 1, n_state
      workspace%z(i) = x_b(i) + workspace%z(i)
    end do
    do i = 1, self%forecast%model%n_parameters
      workspace%p(i) = p_b(i)
    end do
    do i = 1, size(self%parameter_indices)
      associate (p => workspace%p(self%parameter_indices(i)))
        p = p + workspace%z(n_state + i)
      end associate
    end do
  end subroutine to_physical

  !> The observation term of the state and parameters in the workspace.
  subroutine observation_cost(self, k, y, workspace, jo, status, failed_step, trajectory)
    class(fourdvar), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: y(self%forecast%observations%n_observations)
    type(fourdvar_workspace), intent(inout) :: workspace
    real(rk), intent(out) :: jo
    integer, intent(out) :: status
    integer, intent(out) :: failed_step
    real(rk), intent(out), optional :: trajectory(self%forecast%model%n_state, &
      & 0:self%forecast%n_steps)

    integer :: i

    jo = 0.0_rk
    call self%forecast%forward(k, workspace%p, workspace%z, workspace%y, workspace%forecast, &
      & status, failed_step, trajectory)
    if (status /= status_ok) return
    do i = 1, size(workspace%dy)
      workspace%dy(i) = y(i) - workspace%y(i)
    end do
    call self%forecast%observations%whiten(workspace%dy, workspace%w)
    jo = 0.5_rk*dot(size(workspace%w), workspace%w, workspace%w)
  end subroutine observation_cost

  !> Gradient of J at the point of the last `cost`, by an adjoint run.
  subroutine gradient(self, k, v, workspace, v_ad, status)
    class(fourdvar), intent(in) :: self
    !> Number of the window's first step
    integer, intent(in) :: k
    !> Control vector of the last `cost`
    real(rk), intent(in) :: v(self%control%n_control)
    !> Workspace of the last `cost`
    type(fourdvar_workspace), intent(inout) :: workspace
    !> Gradient in control space
    real(rk), intent(out) :: v_ad(self%control%n_control)
    !> Zero, or what the run reported
    integer, intent(out) :: status

    integer :: i

    do i = 1, size(workspace%w)
      workspace%dw(i) = -workspace%w(i)
    end do
    do i = 1, self%control%n_control
      v_ad(i) = v(i)
    end do
    call add_adjoint(self, k, workspace, v_ad, status)
  end subroutine gradient

  !> `v_ad <- v_ad + (R^{-1/2} G' U)^T dw`, with dw in the workspace.
  subroutine add_adjoint(self, k, workspace, v_ad, status)
    class(fourdvar), intent(in) :: self
    integer, intent(in) :: k
    type(fourdvar_workspace), intent(inout) :: workspace
    real(rk), intent(inout) :: v_ad(self%control%n_control)
    integer, intent(out) :: status

    integer :: i

    workspace%dy = 0.0_rk
    call self%forecast%observations%whiten_ad(workspace%dw, workspace%dy)
    workspace%dz = 0.0_rk
    if (size(self%parameter_indices) > 0) then
      workspace%p_ad = 0.0_rk
      call self%forecast%forward_ad(k, workspace%p, workspace%dy, workspace%dz, &
        & workspace%forecast, status, workspace%p_ad)
      do i = 1, size(self%parameter_indices)
        workspace%dz(self%forecast%model%n_state + i) = workspace%p_ad(self%parameter_indices(i))
      end do
    else
      call self%forecast%forward_ad(k, workspace%p, workspace%dy, workspace%dz, &
        & workspace%forecast, status)
    end if
    if (status /= status_ok) return
    call self%control%forward_ad(workspace%dz, v_ad, workspace%control_work)
  end subroutine add_adjoint

  !> The full nonlinear J and its gradient in control space, by one forward and one adjoint run.
  subroutine cost_and_gradient(self, k, x_b, p_b, y, v, workspace, jb, jo, v_ad, status, &
    & failed_step)
    class(fourdvar), intent(in) :: self
    !> Number of the window's first step
    integer, intent(in) :: k
    !> Background state
    real(rk), intent(in) :: x_b(self%forecast%model%n_state)
    !> Background parameters
    real(rk), intent(in) :: p_b(self%forecast%model%n_parameters)
    !> Observations
    real(rk), intent(in) :: y(self%forecast%observations%n_observations)
    !> Control vector
    real(rk), intent(in) :: v(self%control%n_control)
    !> Workspace
    type(fourdvar_workspace), intent(inout) :: workspace
    !> Background term
    real(rk), intent(out) :: jb
    !> Observation term
    real(rk), intent(out) :: jo
    !> Gradient of their sum
    real(rk), intent(out) :: v_ad(self%control%n_control)
    !> Zero, or what a run reported
    integer, intent(out) :: status
    !> Step of the window at which it failed
    integer, intent(out) :: failed_step

    call workspace%prepare(self)
    call self%cost(k, x_b, p_b, y, v, workspace, jb, jo, status, failed_step)
    if (status /= status_ok) return
    call self%gradient(k, v, workspace, v_ad, status)
  end subroutine cost_and_gradient

  !> The observation term alone, of a state and parameters, and its gradient with respect to both
  !> (all parameters, controlled or not).
  subroutine observation_cost_and_gradient(self, k, x, p, y, workspace, jo, x_ad, p_ad, status, &
    & failed_step)
    class(fourdvar), intent(in) :: self
    !> Number of the window's first step
    integer, intent(in) :: k
    !> State at the window's start
    real(rk), intent(in) :: x(self%forecast%model%n_state)
    !> Parameters
    real(rk), intent(in) :: p(self%forecast%model%n_parameters)
    !> Observations
    real(rk), intent(in) :: y(self%forecast%observations%n_observations)
    !> Workspace
    type(fourdvar_workspace), intent(inout) :: workspace
    !> Observation term
    real(rk), intent(out) :: jo
    !> Gradient with respect to the state
    real(rk), intent(out) :: x_ad(self%forecast%model%n_state)
    !> Gradient with respect to the parameters
    real(rk), intent(out) :: p_ad(self%forecast%model%n_parameters)
    !> Zero, or what a run reported
    integer, intent(out) :: status
    !> Step of the window at which it failed
    integer, intent(out) :: failed_step

    integer :: i

    call workspace%prepare(self)
    do i = 1, self%forecast%model%n_state
      workspace%z(i) = x(i)
    end do
    do i = 1, self%forecast%model%n_parameters
      workspace%p(i) = p(i)
    end do
    call observation_cost(self, k, y, workspace, jo, status, failed_step)
    if (status /= status_ok) return
    do i = 1, size(workspace%w)
      workspace%dw(i) = -workspace%w(i)
    end do
    workspace%dy = 0.0_rk
    call self%forecast%observations%whiten_ad(workspace%dw, workspace%dy)
    x_ad = 0.0_rk
    p_ad = 0.0_rk
    call self%forecast%forward_ad(k, workspace%p, workspace%dy, x_ad, workspace%forecast, &
      & status, p_ad)
  end subroutine observation_cost_and_gradient

  !> The Gauss-Newton Hessian about the last `cost`:
  !> `h_v <- (I + U^T G'^T R^{-1} G' U) dv`, by one tangent linear and one adjoint run.
  subroutine hessian(self, k, dv, h_v, workspace, status)
    class(fourdvar), intent(in) :: self
    !> Number of the window's first step
    integer, intent(in) :: k
    !> Factor
    real(rk), intent(in) :: dv(self%control%n_control)
    !> Product
    real(rk), intent(out) :: h_v(self%control%n_control)
    !> Workspace of the last `cost`
    type(fourdvar_workspace), intent(inout) :: workspace
    !> Zero, or what a run reported
    integer, intent(out) :: status

    integer :: i

    call self%control%forward_tl(dv, workspace%dz, workspace%control_work)
    if (size(self%parameter_indices) > 0) then
      workspace%dp = 0.0_rk
      do i = 1, size(self%parameter_indices)
        workspace%dp(self%parameter_indices(i)) = workspace%dz(self%forecast%model%n_state + i)
      end do
      call self%forecast%forward_tl(k, workspace%p, workspace%dz, workspace%dy, &
        & workspace%forecast, status, workspace%dp)
    else
      call self%forecast%forward_tl(k, workspace%p, workspace%dz, workspace%dy, &
        & workspace%forecast, status)
    end if
    if (status /= status_ok) return
    call self%forecast%observations%whiten(workspace%dy, workspace%dw)
    do i = 1, self%control%n_control
      h_v(i) = dv(i)
    end do
    call add_adjoint(self, k, workspace, h_v, status)
  end subroutine hessian

  subroutine hessian_apply(self, x, a_x, status)
    class(hessian_operator), intent(inout) :: self
    !> Factor
    real(rk), intent(in) :: x(self%n)
    !> Product
    real(rk), intent(out) :: a_x(self%n)
    !> Zero, or what a run reported
    integer, intent(out) :: status

    call self%problem%hessian(self%k, x, a_x, self%workspace, status)
  end subroutine hessian_apply

end module pybridge_fourdvar
