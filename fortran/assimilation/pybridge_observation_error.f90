! SPDX-License-Identifier: MIT
!> Observation error covariances R, as the transform that makes departures unit and uncorrelated:
!> `w = R^{-1/2} d`, so that `d^T R^{-1} d = w^T w`.
module pybridge_observation_error
  use pybridge_finite, only: is_bounded
  use pybridge_kinds, only: rk
  use pybridge_status, only: status_observation, status_ok
  implicit none
  private
  public :: observation_error
  public :: diagonal_error, new_diagonal_error

  !> Configuration only, `intent(in)` in every verb.
  type, abstract :: observation_error
    !> Number of observations
    integer :: n_observations = 0
  contains
    procedure(whiten_interface), deferred :: whiten
    procedure(whiten_ad_interface), deferred :: whiten_ad
  end type observation_error

  abstract interface

    !> `w <- R^{-1/2} d`. Linear: its own tangent linear.
    subroutine whiten_interface(self, d, w)
      import :: observation_error, rk
      implicit none
      class(observation_error), intent(in) :: self
      !> Departures, in the observations' units
      real(rk), intent(in) :: d(self%n_observations)
      !> Whitened departures
      real(rk), intent(out) :: w(self%n_observations)
    end subroutine whiten_interface

    !> Adjoint, accumulating: `d_ad <- d_ad + R^{-T/2} w_ad`.
    subroutine whiten_ad_interface(self, w_ad, d_ad)
      import :: observation_error, rk
      implicit none
      class(observation_error), intent(in) :: self
      !> Adjoint of the whitened departures
      real(rk), intent(in) :: w_ad(self%n_observations)
      !> Adjoint of the departures, accumulated
      real(rk), intent(inout) :: d_ad(self%n_observations)
    end subroutine whiten_ad_interface

  end interface

  !> Uncorrelated errors.
  type, extends(observation_error) :: diagonal_error
    !> One over the standard deviations, shape (n_observations)
    real(rk), allocatable :: inverse_sigma(:)
  contains
    procedure :: whiten => diagonal_whiten
    procedure :: whiten_ad => diagonal_whiten_ad
  end type diagonal_error

contains

  !> Make an error covariance from standard deviations.
  subroutine new_diagonal_error(error, sigma, status)
    type(diagonal_error), intent(out) :: error
    !> Standard deviations, positive and finite
    real(rk), intent(in) :: sigma(:)
    !> `status_observation` when one is not
    integer, intent(out) :: status

    status = status_observation
    if (.not. is_bounded(size(sigma), sigma, huge(1.0_rk))) return
    if (.not. all(sigma > 0.0_rk)) return
    error%n_observations = size(sigma)
    error%inverse_sigma = 1.0_rk/sigma
    if (.not. is_bounded(size(sigma), error%inverse_sigma, huge(1.0_rk))) return
    status = status_ok
  end subroutine new_diagonal_error

  subroutine diagonal_whiten(self, d, w)
    class(diagonal_error), intent(in) :: self
    real(rk), intent(in) :: d(self%n_observations)
    real(rk), intent(out) :: w(self%n_observations)

    integer :: i

    do i = 1, self%n_observations
      w(i) = self%inverse_sigma(i)*d(i)
    end do
  end subroutine diagonal_whiten

  subroutine diagonal_whiten_ad(self, w_ad, d_ad)
    class(diagonal_error), intent(in) :: self
    real(rk), intent(in) :: w_ad(self%n_observations)
    real(rk), intent(inout) :: d_ad(self%n_observations)

    integer :: i

    do i = 1, self%n_observations
      d_ad(i) = d_ad(i) + self%inverse_sigma(i)*w_ad(i)
    end do
  end subroutine diagonal_whiten_ad

end module pybridge_observation_error
