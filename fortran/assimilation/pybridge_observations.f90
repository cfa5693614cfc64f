! SPDX-License-Identifier: MIT
!> The layout of a window's observations: when each group is made, by which operator, with which
!> error. The values themselves change from window to window and are arguments elsewhere.
module pybridge_observations
  use pybridge_kinds, only: rk
  use pybridge_observation_error, only: diagonal_error, new_diagonal_error, observation_error
  use pybridge_observation_operator, only: new_selection_operator, observation_operator, &
    & selection_operator
  use pybridge_status, only: status_observation, status_ok, status_wrong_shape
  implicit none
  private
  public :: observation_group, observation_set, new_observation_set

  !> Observations made at one time by one operator.
  type :: observation_group
    !> Step within the window after which they are made; 0 is the window's start
    integer :: step = 0
    !> Where the group begins in the vector of all observations (before its first)
    integer :: offset = 0
    !> Where its operator's record begins (before its first value)
    integer :: record_offset = 0
    class(observation_operator), allocatable :: operator
    class(observation_error), allocatable :: error
  end type observation_group

  !> All groups of a window. Observations are numbered in the order in which groups were added.
  type :: observation_set
    !> Size of the state
    integer :: n_state = 0
    !> Number of groups
    integer :: n_groups = 0
    !> Number of observations of all groups
    integer :: n_observations = 0
    !> Values that the operators record together
    integer :: n_linearisation = 0
    !> Scratch space, the largest that any operator needs
    integer :: n_work = 0
    !> Last step at which something is observed
    integer :: last_step = 0
    !> Groups in the order of adding, the first `n_groups` are in use
    type(observation_group), allocatable :: groups(:)
    !> Numbers of the groups in the order of time
    integer, allocatable :: order(:)
  contains
    procedure :: add
    procedure :: add_selection
    procedure :: whiten
    procedure :: whiten_ad
  end type observation_set

contains

  !> Make an empty set.
  function new_observation_set(n_state) result(observations)
    !> Size of the state
    integer, intent(in) :: n_state
    type(observation_set) :: observations

    observations%n_state = n_state
    allocate (observations%groups(8), observations%order(8))
  end function new_observation_set

  !> Add a group. Operator and error are copied.
  subroutine add(self, step, operator, error, status)
    class(observation_set), intent(inout) :: self
    !> Step within the window after which the observations are made, from 0
    integer, intent(in) :: step
    !> Observation operator
    class(observation_operator), intent(in) :: operator
    !> Error covariance
    class(observation_error), intent(in) :: error
    !> `status_observation` for a negative step, `status_wrong_shape` when sizes do not fit
    integer, intent(out) :: status

    integer :: g, place

    status = status_observation
    if (step < 0) return
    status = status_wrong_shape
    if (operator%n_state /= self%n_state) return
    if (operator%n_observations /= error%n_observations) return

    if (self%n_groups == size(self%groups)) call grow(self)
    g = self%n_groups + 1
    self%groups(g)%step = step
    self%groups(g)%offset = self%n_observations
    self%groups(g)%record_offset = self%n_linearisation
    allocate (self%groups(g)%operator, source=operator)
    allocate (self%groups(g)%error, source=error)
    self%n_groups = g
    self%n_observations = self%n_observations + operator%n_observations
    self%n_linearisation = self%n_linearisation + operator%n_linearisation
    self%n_work = max(self%n_work, operator%n_work)
    self%last_step = max(self%last_step, step)

    ! Groups of one time keep the order in which they were added.
    place = g
    do while (place > 1)
      if (self%groups(self%order(place - 1))%step <= step) exit
      self%order(place) = self%order(place - 1)
      place = place - 1
    end do
    self%order(place) = g
    status = status_ok
  end subroutine add

  !> Add observations of single values of the state with uncorrelated errors.
  subroutine add_selection(self, step, indices, sigma, status)
    class(observation_set), intent(inout) :: self
    !> Step within the window after which the observations are made, from 0
    integer, intent(in) :: step
    !> Values observed, counted from one
    integer, intent(in) :: indices(:)
    !> Standard deviations of the errors
    real(rk), intent(in) :: sigma(:)
    !> `status_observation` or `status_wrong_shape` as in `add`, or for indices or errors out of
    !> range
    integer, intent(out) :: status

    type(selection_operator) :: operator
    type(diagonal_error) :: error

    call new_selection_operator(operator, self%n_state, indices, status)
    if (status /= status_ok) return
    call new_diagonal_error(error, sigma, status)
    if (status /= status_ok) return
    call self%add(step, operator, error, status)
  end subroutine add_selection

  !> Make room for twice as many groups.
  subroutine grow(self)
    class(observation_set), intent(inout) :: self

    type(observation_group), allocatable :: groups(:)
    integer, allocatable :: order(:)
    integer :: g

    allocate (groups(2*size(self%groups)), order(2*size(self%groups)))
    order(1:self%n_groups) = self%order(1:self%n_groups)
    do g = 1, self%n_groups
      groups(g)%step = self%groups(g)%step
      groups(g)%offset = self%groups(g)%offset
      groups(g)%record_offset = self%groups(g)%record_offset
      call move_alloc(self%groups(g)%operator, groups(g)%operator)
      call move_alloc(self%groups(g)%error, groups(g)%error)
    end do
    call move_alloc(groups, self%groups)
    call move_alloc(order, self%order)
  end subroutine grow

  !> `w <- R^{-1/2} d` for all groups. Linear: its own tangent linear.
  subroutine whiten(self, d, w)
    class(observation_set), intent(in) :: self
    !> Departures
    real(rk), intent(in) :: d(self%n_observations)
    !> Whitened departures
    real(rk), intent(out) :: w(self%n_observations)

    integer :: g

    do g = 1, self%n_groups
      associate (first => self%groups(g)%offset + 1, &
        & last => self%groups(g)%offset + self%groups(g)%error%n_observations)
        call self%groups(g)%error%whiten(d(first:last), w(first:last))
      end associate
    end do
  end subroutine whiten

  !> Adjoint of `whiten`, accumulating: `d_ad <- d_ad + R^{-T/2} w_ad`.
  subroutine whiten_ad(self, w_ad, d_ad)
    class(observation_set), intent(in) :: self
    !> Adjoint of the whitened departures
    real(rk), intent(in) :: w_ad(self%n_observations)
    !> Adjoint of the departures, accumulated
    real(rk), intent(inout) :: d_ad(self%n_observations)

    integer :: g

    do g = 1, self%n_groups
      associate (first => self%groups(g)%offset + 1, &
        & last => self%groups(g)%offset + self%groups(g)%error%n_observations)
        call self%groups(g)%error%whiten_ad(w_ad(first:last), d_ad(first:last))
      end associate
    end do
  end subroutine whiten_ad

end module pybridge_observations
