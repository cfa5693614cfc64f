! SPDX-License-Identifier: MIT
!> What all models with a correction share: the model that is corrected, the correction, and the
!> parts of parameters, linearisation and workspace that belong to each.
module pybridge_hybrid_model
  use pybridge_correction, only: network_correction
  use pybridge_forecast_model, only: forecast_model
  use pybridge_kinds, only: rk
  implicit none
  private
  public :: hybrid_model

  !> Parameters: the model's, then the network's weights. Linearisation: the model's, then the
  !> correction's. Workspace: `correction_values`, then scratch space for whoever runs.
  type, abstract, extends(forecast_model) :: hybrid_model
    class(forecast_model), allocatable :: physics
    type(network_correction) :: correction
  contains
    procedure :: combine
    procedure :: physics_step
    procedure :: physics_step_tl
    procedure :: physics_step_ad
    procedure :: correct
    procedure :: correct_tl
    procedure :: correct_ad
    procedure :: physics_start
    procedure :: physics_start_tl
    procedure :: physics_start_ad
    procedure :: start => physics_start
    procedure :: start_tl => physics_start_tl
    procedure :: start_ad => physics_start_ad
  end type hybrid_model

contains

  !> Take copies of a model and a correction, and set all sizes.
  subroutine combine(self, physics, correction, n_carry)
    class(hybrid_model), intent(inout) :: self
    class(forecast_model), intent(in) :: physics
    type(network_correction), intent(in) :: correction
    !> Values that are carried beside those of the model
    integer, intent(in) :: n_carry

    allocate (self%physics, source=physics)
    self%correction = correction
    self%dt = physics%dt
    self%blow_up_limit = physics%blow_up_limit
    allocate (self%parameters(physics%n_parameters + correction%n_parameters), source=0.0_rk)
    if (allocated(physics%parameters)) self%parameters(1:physics%n_parameters) = physics%parameters
    self%parameters(physics%n_parameters + 1:) = correction%net%parameters
    call self%set_sizes(physics%n_state, physics%n_parameters + correction%n_parameters, &
      & physics%n_linearisation + correction%n_linearisation, &
      & physics%n_state + max(physics%n_work, correction%n_work), &
      & n_carry=physics%n - physics%n_state + n_carry)
  end subroutine combine

  subroutine physics_step(self, k, p, x, linearisation, work, status)
    class(hybrid_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    !> State, and what the model carries
    real(rk), intent(inout) :: x(self%physics%n)
    real(rk), intent(inout) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status

    call self%physics%step(k, p(1:self%physics%n_parameters), x, &
      & linearisation(1:self%physics%n_linearisation), work(self%n_state + 1:), status)
  end subroutine physics_step

  subroutine physics_step_tl(self, k, p, linearisation, dx, work, status, dp)
    class(hybrid_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: dx(self%physics%n)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(in), optional :: dp(self%n_parameters)

    associate (n => self%n_state, m => self%physics%n_parameters, r => self%physics%n_linearisation)
      if (present(dp)) then
        call self%physics%step_tl(k, p(1:m), linearisation(1:r), dx, work(n + 1:), status, dp(1:m))
      else
        call self%physics%step_tl(k, p(1:m), linearisation(1:r), dx, work(n + 1:), status)
      end if
    end associate
  end subroutine physics_step_tl

  subroutine physics_step_ad(self, k, p, linearisation, x_ad, work, status, p_ad)
    class(hybrid_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: x_ad(self%physics%n)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    associate (n => self%n_state, m => self%physics%n_parameters, r => self%physics%n_linearisation)
      if (present(p_ad)) then
        call self%physics%step_ad(k, p(1:m), linearisation(1:r), x_ad, work(n + 1:), status, &
          & p_ad(1:m))
      else
        call self%physics%step_ad(k, p(1:m), linearisation(1:r), x_ad, work(n + 1:), status)
      end if
    end associate
  end subroutine physics_step_ad

  !> The correction at time `k*dt`.
  subroutine correct(self, k, p, x, y, linearisation, work)
    class(hybrid_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n_state)
    real(rk), intent(out) :: y(self%n_state)
    real(rk), intent(inout) :: linearisation(self%n_linearisation)
    !> Scratch space, without the place for the correction's values
    real(rk), intent(inout) :: work(self%n_work - self%n_state)

    call self%correction%forward(k*self%dt, p(self%physics%n_parameters + 1:), x, y, &
      & linearisation(self%physics%n_linearisation + 1:), work)
  end subroutine correct

  subroutine correct_tl(self, p, linearisation, dx, dy, work, dp)
    class(hybrid_model), intent(in) :: self
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(in) :: dx(self%n_state)
    real(rk), intent(out) :: dy(self%n_state)
    real(rk), intent(inout) :: work(self%n_work - self%n_state)
    real(rk), intent(in), optional :: dp(self%n_parameters)

    associate (m => self%physics%n_parameters, r => self%physics%n_linearisation)
      if (present(dp)) then
        call self%correction%forward_tl(p(m + 1:), linearisation(r + 1:), dx, dy, work, dp(m + 1:))
      else
        call self%correction%forward_tl(p(m + 1:), linearisation(r + 1:), dx, dy, work)
      end if
    end associate
  end subroutine correct_tl

  !> Adjoint of `correct`, accumulating into x_ad and p_ad.
  subroutine correct_ad(self, p, linearisation, y_ad, x_ad, work, p_ad)
    class(hybrid_model), intent(in) :: self
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(in) :: y_ad(self%n_state)
    real(rk), intent(inout) :: x_ad(self%n_state)
    real(rk), intent(inout) :: work(self%n_work - self%n_state)
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    associate (m => self%physics%n_parameters, r => self%physics%n_linearisation)
      if (present(p_ad)) then
        call self%correction%forward_ad(p(m + 1:), linearisation(r + 1:), y_ad, x_ad, work, &
          & p_ad(m + 1:))
      else
        call self%correction%forward_ad(p(m + 1:), linearisation(r + 1:), y_ad, x_ad, work)
      end if
    end associate
  end subroutine correct_ad

  !> The model's own `start`; a correction that carries something has its own, which calls this.
  subroutine physics_start(self, k, p, x, linearisation, work, status)
    class(hybrid_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(inout) :: x(self%n)
    real(rk), intent(inout) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status

    call self%physics%start(k, p(1:self%physics%n_parameters), x(1:self%physics%n), &
      & linearisation(1:self%physics%n_linearisation), work(self%n_state + 1:), status)
  end subroutine physics_start

  subroutine physics_start_tl(self, k, p, linearisation, dx, work, status, dp)
    class(hybrid_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: dx(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(in), optional :: dp(self%n_parameters)

    associate (n => self%n_state, m => self%physics%n_parameters, r => self%physics%n_linearisation)
      if (present(dp)) then
        call self%physics%start_tl(k, p(1:m), linearisation(1:r), dx(1:self%physics%n), &
          & work(n + 1:), status, dp(1:m))
      else
        call self%physics%start_tl(k, p(1:m), linearisation(1:r), dx(1:self%physics%n), &
          & work(n + 1:), status)
      end if
    end associate
  end subroutine physics_start_tl

  subroutine physics_start_ad(self, k, p, linearisation, x_ad, work, status, p_ad)
    class(hybrid_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: x_ad(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    associate (n => self%n_state, m => self%physics%n_parameters, r => self%physics%n_linearisation)
      if (present(p_ad)) then
        call self%physics%start_ad(k, p(1:m), linearisation(1:r), x_ad(1:self%physics%n), &
          & work(n + 1:), status, p_ad(1:m))
      else
        call self%physics%start_ad(k, p(1:m), linearisation(1:r), x_ad(1:self%physics%n), &
          & work(n + 1:), status)
      end if
    end associate
  end subroutine physics_start_ad

end module pybridge_hybrid_model
