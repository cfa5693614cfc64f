! SPDX-License-Identifier: MIT
!> A forecast model with a network's correction added to the state after every k-th step (a
!> resolvent correction, as in Farchi et al. 2021): `x <- x + g(t, w, x)`, x being the forecast.
module pybridge_hybrid_increment
  use pybridge_correction, only: network_correction
  use pybridge_forecast_model, only: forecast_model
  use pybridge_hybrid_model, only: hybrid_model
  use pybridge_kinds, only: rk
  use pybridge_status, only: status_ok
  implicit none
  private
  public :: hybrid_increment_model, new_hybrid_increment_model

  type, extends(hybrid_model) :: hybrid_increment_model
    private
    !> The correction follows the steps that end at multiples of this number
    integer :: every = 1
  contains
    procedure :: step
    procedure :: step_tl
    procedure :: step_ad
  end type hybrid_increment_model

contains

  function new_hybrid_increment_model(physics, correction, every) result(model)
    !> The model that is corrected, copied
    class(forecast_model), intent(in) :: physics
    type(network_correction), intent(in) :: correction
    !> Steps from one correction to the next, counted from time zero
    integer, intent(in) :: every
    type(hybrid_increment_model) :: model

    call model%combine(physics, correction, n_carry=0)
    model%every = every
  end function new_hybrid_increment_model

  !> Whether the correction follows step k.
  pure function is_due(self, k)
    class(hybrid_increment_model), intent(in) :: self
    integer, intent(in) :: k
    logical :: is_due

    is_due = modulo(k + 1, self%every) == 0
  end function is_due

  subroutine step(self, k, p, x, linearisation, work, status)
    class(hybrid_increment_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(inout) :: x(self%n)
    real(rk), intent(inout) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status

    integer :: i, n

    n = self%n_state
    call self%physics_step(k, p, x, linearisation, work, status)
    if (status /= status_ok .or. .not. is_due(self, k)) return
    call self%correct(k + 1, p, x(1:n), work(1:n), linearisation, work(n + 1:))
    do i = 1, n
      x(i) = x(i) + work(i)
    end do
  end subroutine step

  subroutine step_tl(self, k, p, linearisation, dx, work, status, dp)
    class(hybrid_increment_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: dx(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(in), optional :: dp(self%n_parameters)

    integer :: i, n

    n = self%n_state
    call self%physics_step_tl(k, p, linearisation, dx, work, status, dp)
    if (status /= status_ok .or. .not. is_due(self, k)) return
    call self%correct_tl(p, linearisation, dx(1:n), work(1:n), work(n + 1:), dp)
    do i = 1, n
      dx(i) = dx(i) + work(i)
    end do
  end subroutine step_tl

  subroutine step_ad(self, k, p, linearisation, x_ad, work, status, p_ad)
    class(hybrid_increment_model), intent(in) :: self
    integer, intent(in) :: k
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: x_ad(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    integer :: n

    n = self%n_state
    if (is_due(self, k)) then
      ! A copy, since the adjoint of the correction adds to what it reads
      work(1:n) = x_ad(1:n)
      call self%correct_ad(p, linearisation, work(1:n), x_ad(1:n), work(n + 1:), p_ad)
    end if
    call self%physics_step_ad(k, p, linearisation, x_ad, work, status, p_ad)
  end subroutine step_ad

end module pybridge_hybrid_increment
