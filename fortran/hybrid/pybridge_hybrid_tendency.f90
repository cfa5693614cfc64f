! SPDX-License-Identifier: MIT
!> A tendency with a network's correction added: `f(t, p, x) + g(t, w, x)`. Integrated, it corrects
!> the model inside its time scheme, at every stage.
module pybridge_hybrid_tendency
  use pybridge_correction, only: network_correction
  use pybridge_kinds, only: rk
  use pybridge_tendency, only: tendency_term
  implicit none
  private
  public :: hybrid_tendency, new_hybrid_tendency

  !> Parameters: the model's, then the network's weights
  type, extends(tendency_term) :: hybrid_tendency
    private
    class(tendency_term), allocatable :: physics
    type(network_correction) :: correction
  contains
    procedure :: forward
    procedure :: forward_tl
    procedure :: forward_ad
  end type hybrid_tendency

contains

  function new_hybrid_tendency(physics, correction) result(tendency)
    !> The model's tendency, copied
    class(tendency_term), intent(in) :: physics
    type(network_correction), intent(in) :: correction
    type(hybrid_tendency) :: tendency

    allocate (tendency%physics, source=physics)
    tendency%correction = correction
    tendency%n = physics%n
    tendency%n_parameters = physics%n_parameters + correction%n_parameters
    tendency%n_linearisation = physics%n_linearisation + correction%n_linearisation
    tendency%n_work = physics%n + max(physics%n_work, correction%n_work)
    allocate (tendency%parameters(tendency%n_parameters), source=0.0_rk)
    if (allocated(physics%parameters)) tendency%parameters(1:physics%n_parameters) = &
      & physics%parameters
    tendency%parameters(physics%n_parameters + 1:) = correction%net%parameters
  end function new_hybrid_tendency

  subroutine forward(self, t, p, x, f, linearisation, work)
    class(hybrid_tendency), intent(in) :: self
    real(rk), intent(in) :: t
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n)
    real(rk), intent(out) :: f(self%n)
    real(rk), intent(inout) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: work(self%n_work)

    integer :: i, m, n, r

    n = self%n
    m = self%physics%n_parameters
    r = self%physics%n_linearisation
    call self%physics%forward(t, p(1:m), x, f, linearisation(1:r), work(n + 1:))
    call self%correction%forward(t, p(m + 1:), x, work(1:n), linearisation(r + 1:), work(n + 1:))
    do i = 1, n
      f(i) = f(i) + work(i)
    end do
  end subroutine forward

  subroutine forward_tl(self, t, p, x, linearisation, dx, df, work, dp)
    class(hybrid_tendency), intent(in) :: self
    real(rk), intent(in) :: t
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(in) :: dx(self%n)
    real(rk), intent(out) :: df(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    real(rk), intent(in), optional :: dp(self%n_parameters)

    integer :: i, m, n, r

    n = self%n
    m = self%physics%n_parameters
    r = self%physics%n_linearisation
    if (present(dp)) then
      call self%physics%forward_tl(t, p(1:m), x, linearisation(1:r), dx, df, work(n + 1:), dp(1:m))
      call self%correction%forward_tl(p(m + 1:), linearisation(r + 1:), dx, work(1:n), &
        & work(n + 1:), dp(m + 1:))
    else
      call self%physics%forward_tl(t, p(1:m), x, linearisation(1:r), dx, df, work(n + 1:))
      call self%correction%forward_tl(p(m + 1:), linearisation(r + 1:), dx, work(1:n), &
        & work(n + 1:))
    end if
    do i = 1, n
      df(i) = df(i) + work(i)
    end do
  end subroutine forward_tl

  subroutine forward_ad(self, t, p, x, linearisation, f_ad, x_ad, work, p_ad)
    class(hybrid_tendency), intent(in) :: self
    real(rk), intent(in) :: t
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(in) :: f_ad(self%n)
    real(rk), intent(inout) :: x_ad(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    integer :: m, n, r

    n = self%n
    m = self%physics%n_parameters
    r = self%physics%n_linearisation
    if (present(p_ad)) then
      call self%physics%forward_ad(t, p(1:m), x, linearisation(1:r), f_ad, x_ad, work(n + 1:), &
        & p_ad(1:m))
      call self%correction%forward_ad(p(m + 1:), linearisation(r + 1:), f_ad, x_ad, work(n + 1:), &
        & p_ad(m + 1:))
    else
      call self%physics%forward_ad(t, p(1:m), x, linearisation(1:r), f_ad, x_ad, work(n + 1:))
      call self%correction%forward_ad(p(m + 1:), linearisation(r + 1:), f_ad, x_ad, work(n + 1:))
    end if
  end subroutine forward_ad

end module pybridge_hybrid_tendency
