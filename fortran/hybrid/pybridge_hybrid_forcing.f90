! SPDX-License-Identifier: MIT
!> A forecast model with a forcing that a network gives once, from the state at the start of the
!> run, and that is held constant through it (the simplified form of Farchi et al. 2023):
!>
!>     w = g(t_0, w, x_0),    x <- M(x) + dt w   at every step
module pybridge_hybrid_forcing
  use pybridge_correction, only: network_correction
  use pybridge_forecast_model, only: forecast_model
  use pybridge_hybrid_model, only: hybrid_model
  use pybridge_kinds, only: rk
  use pybridge_status, only: status_ok
  implicit none
  private
  public :: hybrid_forcing_model, new_hybrid_forcing_model

  !> Carried: what the model carries, then the forcing (n_state values)
  type, extends(hybrid_model) :: hybrid_forcing_model
  contains
    procedure :: step
    procedure :: step_tl
    procedure :: step_ad
    procedure :: start
    procedure :: start_tl
    procedure :: start_ad
  end type hybrid_forcing_model

contains

  function new_hybrid_forcing_model(physics, correction) result(model)
    !> The model that is corrected, copied
    class(forecast_model), intent(in) :: physics
    type(network_correction), intent(in) :: correction
    type(hybrid_forcing_model) :: model

    call model%combine(physics, correction, n_carry=physics%n_state)
  end function new_hybrid_forcing_model

  subroutine step(self, k, p, x, linearisation, work, status)
    class(hybrid_forcing_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(inout) :: x(self%n)
    real(rk), intent(inout) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status

    integer :: i, n, forcing

    n = self%n_state
    forcing = self%physics%n
    call self%physics_step(k, p, x(1:forcing), linearisation, work, status)
    do i = 1, n
      x(i) = x(i) + self%dt*x(forcing + i)
    end do
  end subroutine step

  subroutine step_tl(self, k, p, linearisation, dx, work, status, dp)
    class(hybrid_forcing_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: dx(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(in), optional :: dp(self%n_parameters)

    integer :: i, n, forcing

    n = self%n_state
    forcing = self%physics%n
    call self%physics_step_tl(k, p, linearisation, dx(1:forcing), work, status, dp)
    do i = 1, n
      dx(i) = dx(i) + self%dt*dx(forcing + i)
    end do
  end subroutine step_tl

  subroutine step_ad(self, k, p, linearisation, x_ad, work, status, p_ad)
    class(hybrid_forcing_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: x_ad(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    integer :: i, n, forcing

    n = self%n_state
    forcing = self%physics%n
    do i = 1, n
      x_ad(forcing + i) = x_ad(forcing + i) + self%dt*x_ad(i)
    end do
    call self%physics_step_ad(k, p, linearisation, x_ad(1:forcing), work, status, p_ad)
  end subroutine step_ad

  subroutine start(self, k, p, x, linearisation, work, status)
    class(hybrid_forcing_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(inout) :: x(self%n)
    real(rk), intent(inout) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status

    call self%physics_start(k, p, x, linearisation, work, status)
    if (status /= status_ok) return
    call self%correct(k, p, x(1:self%n_state), x(self%physics%n + 1:), linearisation, &
      & work(self%n_state + 1:))
  end subroutine start

  subroutine start_tl(self, k, p, linearisation, dx, work, status, dp)
    class(hybrid_forcing_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: dx(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(in), optional :: dp(self%n_parameters)

    call self%physics_start_tl(k, p, linearisation, dx, work, status, dp)
    if (status /= status_ok) return
    call self%correct_tl(p, linearisation, dx(1:self%n_state), dx(self%physics%n + 1:), &
      & work(self%n_state + 1:), dp)
  end subroutine start_tl

  subroutine start_ad(self, k, p, linearisation, x_ad, work, status, p_ad)
    class(hybrid_forcing_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: x_ad(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    call self%correct_ad(p, linearisation, x_ad(self%physics%n + 1:), x_ad(1:self%n_state), &
      & work(self%n_state + 1:), p_ad)
    x_ad(self%physics%n + 1:) = 0.0_rk
    call self%physics_start_ad(k, p, linearisation, x_ad, work, status, p_ad)
  end subroutine start_ad

end module pybridge_hybrid_forcing
