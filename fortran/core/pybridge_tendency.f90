! SPDX-License-Identifier: MIT
!> The abstract tendency `dx/dt = f(t, p, x)` with its tangent linear and adjoint, from which a
!> time integrator makes a forecast model.
module pybridge_tendency
  use pybridge_kinds, only: rk
  implicit none
  private
  public :: tendency_term

  type, abstract :: tendency_term
    !> Size of the state
    integer :: n = 0
    !> Size of the parameter vector
    integer :: n_parameters = 0
    !> Values that `forward` records for its linearisation beside the state itself
    integer :: n_linearisation = 0
    !> Values of scratch space
    integer :: n_work = 0
    !> Default parameter vector, shape (n_parameters)
    real(rk), allocatable :: parameters(:)
  contains
    procedure(forward_interface), deferred :: forward
    procedure(forward_tl_interface), deferred :: forward_tl
    procedure(forward_ad_interface), deferred :: forward_ad
  end type tendency_term

  abstract interface

    !> The tendency: `f <- f(t, p, x)`.
    subroutine forward_interface(self, t, p, x, f, linearisation, work)
      import :: tendency_term, rk
      implicit none
      class(tendency_term), intent(in) :: self
      !> Time, in the model's unit
      real(rk), intent(in) :: t
      real(rk), intent(in) :: p(self%n_parameters)
      real(rk), intent(in) :: x(self%n)
      real(rk), intent(out) :: f(self%n)
      real(rk), intent(inout) :: linearisation(self%n_linearisation)
      real(rk), intent(inout) :: work(self%n_work)
    end subroutine forward_interface

    !> Tangent linear: `df <- (df/dx) dx + (df/dp) dp`.
    subroutine forward_tl_interface(self, t, p, x, linearisation, dx, df, work, dp)
      import :: tendency_term, rk
      implicit none
      class(tendency_term), intent(in) :: self
      real(rk), intent(in) :: t
      real(rk), intent(in) :: p(self%n_parameters)
      real(rk), intent(in) :: x(self%n)
      real(rk), intent(in) :: linearisation(self%n_linearisation)
      real(rk), intent(in) :: dx(self%n)
      real(rk), intent(out) :: df(self%n)
      real(rk), intent(inout) :: work(self%n_work)
      !> Perturbation of the parameters; absent means zero
      real(rk), intent(in), optional :: dp(self%n_parameters)
    end subroutine forward_tl_interface

    !> Adjoint, accumulating: `x_ad <- x_ad + (df/dx)^T f_ad`, `p_ad <- p_ad + (df/dp)^T f_ad`.
    subroutine forward_ad_interface(self, t, p, x, linearisation, f_ad, x_ad, work, p_ad)
      import :: tendency_term, rk
      implicit none
      class(tendency_term), intent(in) :: self
      real(rk), intent(in) :: t
      real(rk), intent(in) :: p(self%n_parameters)
      real(rk), intent(in) :: x(self%n)
      real(rk), intent(in) :: linearisation(self%n_linearisation)
      real(rk), intent(in) :: f_ad(self%n)
      real(rk), intent(inout) :: x_ad(self%n)
      real(rk), intent(inout) :: work(self%n_work)
      !> Adjoint of the parameters, accumulated; absent means not wanted
      real(rk), intent(inout), optional :: p_ad(self%n_parameters)
    end subroutine forward_ad_interface

  end interface

end module pybridge_tendency
