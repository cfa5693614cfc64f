! SPDX-License-Identifier: MIT
!> Observation operators `y = H(x)`, with tangent linear and adjoint, and the selection of values
!> of the state.
module pybridge_observation_operator
  use pybridge_kinds, only: rk
  use pybridge_status, only: status_observation, status_ok
  implicit none
  private
  public :: observation_operator
  public :: selection_operator, new_selection_operator

  !> Configuration only, `intent(in)` in every verb. `forward` records into `linearisation` what
  !> the other two need; they never recompute. An operator may be nonlinear, and may fail.
  type, abstract :: observation_operator
    !> Size of the state
    integer :: n_state = 0
    !> Number of observations
    integer :: n_observations = 0
    !> Values that `forward` records for its linearisation
    integer :: n_linearisation = 0
    !> Values of scratch space
    integer :: n_work = 0
  contains
    procedure(forward_interface), deferred :: forward
    procedure(forward_tl_interface), deferred :: forward_tl
    procedure(forward_ad_interface), deferred :: forward_ad
  end type observation_operator

  abstract interface

    !> What would be observed of a state: `y <- H(x)`.
    subroutine forward_interface(self, x, y, linearisation, work, status)
      import :: observation_operator, rk
      implicit none
      class(observation_operator), intent(in) :: self
      !> State
      real(rk), intent(in) :: x(self%n_state)
      !> Its equivalents of the observations
      real(rk), intent(out) :: y(self%n_observations)
      !> Record for `forward_tl` and `forward_ad`
      real(rk), intent(inout) :: linearisation(self%n_linearisation)
      !> Scratch space
      real(rk), intent(inout) :: work(self%n_work)
      !> Zero, or a code of `pybridge_status`
      integer, intent(out) :: status
    end subroutine forward_interface

    !> Tangent linear: `dy <- H' dx`.
    subroutine forward_tl_interface(self, linearisation, dx, dy, work, status)
      import :: observation_operator, rk
      implicit none
      class(observation_operator), intent(in) :: self
      !> What `forward` recorded
      real(rk), intent(in) :: linearisation(self%n_linearisation)
      !> Perturbation of the state
      real(rk), intent(in) :: dx(self%n_state)
      !> Perturbation of the observations' equivalents
      real(rk), intent(out) :: dy(self%n_observations)
      !> Scratch space
      real(rk), intent(inout) :: work(self%n_work)
      !> Zero, or a code of `pybridge_status`
      integer, intent(out) :: status
    end subroutine forward_tl_interface

    !> Adjoint, accumulating: `x_ad <- x_ad + H'^T y_ad`.
    subroutine forward_ad_interface(self, linearisation, y_ad, x_ad, work, status)
      import :: observation_operator, rk
      implicit none
      class(observation_operator), intent(in) :: self
      !> What `forward` recorded
      real(rk), intent(in) :: linearisation(self%n_linearisation)
      !> Adjoint of the observations' equivalents
      real(rk), intent(in) :: y_ad(self%n_observations)
      !> Adjoint of the state, accumulated
      real(rk), intent(inout) :: x_ad(self%n_state)
      !> Scratch space
      real(rk), intent(inout) :: work(self%n_work)
      !> Zero, or a code of `pybridge_status`
      integer, intent(out) :: status
    end subroutine forward_ad_interface

  end interface

  !> Observes single values of the state.
  type, extends(observation_operator) :: selection_operator
    !> Which values, counted from one, shape (n_observations); one may be observed repeatedly
    integer, allocatable :: indices(:)
  contains
    procedure :: forward => selection_forward
    procedure :: forward_tl => selection_forward_tl
    procedure :: forward_ad => selection_forward_ad
  end type selection_operator

contains

  !> Make a selection.
  subroutine new_selection_operator(operator, n_state, indices, status)
    type(selection_operator), intent(out) :: operator
    !> Size of the state
    integer, intent(in) :: n_state
    !> Values observed, counted from one
    integer, intent(in) :: indices(:)
    !> `status_observation` when an index is outside the state
    integer, intent(out) :: status

    status = status_observation
    if (any(indices < 1 .or. indices > n_state)) return
    operator%n_state = n_state
    operator%n_observations = size(indices)
    operator%indices = indices
    status = status_ok
  end subroutine new_selection_operator

  subroutine selection_forward(self, x, y, linearisation, work, status)
    class(selection_operator), intent(in) :: self
    real(rk), intent(in) :: x(self%n_state)
    real(rk), intent(out) :: y(self%n_observations)
    real(rk), intent(inout) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status

    integer :: i

    associate (unused_record => linearisation, unused_work => work)
    end associate
    do i = 1, self%n_observations
      y(i) = x(self%indices(i))
    end do
    status = status_ok
  end subroutine selection_forward

  subroutine selection_forward_tl(self, linearisation, dx, dy, work, status)
    class(selection_operator), intent(in) :: self
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(in) :: dx(self%n_state)
    real(rk), intent(out) :: dy(self%n_observations)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status

    integer :: i

    associate (unused_record => linearisation, unused_work => work)
    end associate
    do i = 1, self%n_observations
      dy(i) = dx(self%indices(i))
    end do
    status = status_ok
  end subroutine selection_forward_tl

  subroutine selection_forward_ad(self, linearisation, y_ad, x_ad, work, status)
    class(selection_operator), intent(in) :: self
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(in) :: y_ad(self%n_observations)
    real(rk), intent(inout) :: x_ad(self%n_state)
    real(rk), intent(inout) :: work(self%n_work)
    integer, intent(out) :: status

    integer :: i

    associate (unused_record => linearisation, unused_work => work)
    end associate
    do i = 1, self%n_observations
      x_ad(self%indices(i)) = x_ad(self%indices(i)) + y_ad(i)
    end do
    status = status_ok
  end subroutine selection_forward_ad

end module pybridge_observation_operator
