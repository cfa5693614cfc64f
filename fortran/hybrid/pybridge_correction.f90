! SPDX-License-Identifier: MIT
!> A network's correction of a model: from the state and auxiliary predictors to one value for each
!> state variable, with tangent linear and adjoint.
!>
!> The network's inputs are, in this order: the state; fixed fields; the cosine and sine of the time
!> within each period. The auxiliary ones are not perturbed.
module pybridge_correction
  use pybridge_kinds, only: i8, rk
  use pybridge_network, only: network
  use pybridge_status, only: status_invalid_argument, status_ok, status_out_of_memory, &
    & status_wrong_shape
  implicit none
  private
  public :: network_correction, new_network_correction

  type :: network_correction
    private
    !> Size of the state
    integer, public :: n = 0
    !> The network's weights
    integer, public :: n_parameters = 0
    integer, public :: n_linearisation = 0
    integer, public :: n_work = 0
    type(network), public :: net
    real(rk), allocatable :: fixed(:)
    real(rk), allocatable :: periods(:)
  contains
    procedure :: forward
    procedure :: forward_tl
    procedure :: forward_ad
  end type network_correction

  real(rk), parameter :: two_pi = 6.28318530717958647692_rk

contains

  !> Make a correction; the network is copied.
  subroutine new_network_correction(net, n, fixed, periods, correction, status, message)
    type(network), intent(in) :: net
    !> Size of the state that is corrected
    integer, intent(in) :: n
    !> Fixed fields, handed to the network as they are
    real(rk), intent(in) :: fixed(:)
    !> Periods (a day, a year), in the model's unit of time
    real(rk), intent(in) :: periods(:)
    type(network_correction), intent(out) :: correction
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    character(len=200) :: sentence
    integer :: n_wanted
    integer(i8) :: n_record, n_scratch

    status = status_wrong_shape
    n_wanted = n + size(fixed) + 2*size(periods)
    if (net%n_inputs /= n_wanted) then
      write (sentence, "(a, i0, a, i0, a, i0, a, i0, a, i0)") "the network takes ", net%n_inputs, &
        & " values; the state (", n, "), the fixed fields (", size(fixed), &
        & ") and cosine and sine of ", size(periods), " periods make ", n_wanted
      message = trim(sentence)
      return
    end if
    if (net%n_outputs /= n) then
      write (sentence, "(a, i0, a, i0)") "the network gives ", net%n_outputs, &
        & " values; the state has ", n
      message = trim(sentence)
      return
    end if
    status = status_invalid_argument
    if (any(.not. periods > 0.0_rk)) then
      message = "a period is not positive"
      return
    end if
    n_record = net%linearisation_size(1)
    n_scratch = net%work_size(1) + int(net%n_inputs, i8)
    status = status_out_of_memory
    ! Four stages of a Runge-Kutta step keep a record each, in one array of default integers' size
    if (8*max(n_record, n_scratch) > int(huge(n), i8)) then
      message = "the network's buffers are too large"
      return
    end if
    status = status_ok
    message = ""
    correction%net = net
    correction%n = n
    correction%n_parameters = net%n_parameters
    correction%n_linearisation = int(n_record)
    correction%n_work = int(n_scratch)
    allocate (correction%fixed, source=fixed)
    allocate (correction%periods, source=periods)
  end subroutine new_network_correction

  subroutine forward(self, t, p, x, y, linearisation, work)
    class(network_correction), intent(in) :: self
    !> Time, in the model's unit
    real(rk), intent(in) :: t
    !> Weights
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: x(self%n)
    !> Correction
    real(rk), intent(out) :: y(self%n)
    real(rk), intent(inout) :: linearisation(self%n_linearisation)
    real(rk), intent(inout) :: work(self%n_work)

    integer :: i, n_inputs

    n_inputs = self%net%n_inputs
    work(1:self%n) = x
    work(self%n + 1:self%n + size(self%fixed)) = self%fixed
    do i = 1, size(self%periods)
      work(self%n + size(self%fixed) + 2*i - 1) = cos(two_pi*t/self%periods(i))
      work(self%n + size(self%fixed) + 2*i) = sin(two_pi*t/self%periods(i))
    end do
    call self%net%forward(1, p, work(1:n_inputs), y, linearisation, work(n_inputs + 1:))
  end subroutine forward

  subroutine forward_tl(self, p, linearisation, dx, dy, work, dp)
    class(network_correction), intent(in) :: self
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(in) :: dx(self%n)
    real(rk), intent(out) :: dy(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    real(rk), intent(in), optional :: dp(self%n_parameters)

    integer :: n_inputs

    n_inputs = self%net%n_inputs
    work(1:self%n) = dx
    work(self%n + 1:n_inputs) = 0.0_rk
    call self%net%forward_tl(1, p, linearisation, work(1:n_inputs), dy, work(n_inputs + 1:), dp)
  end subroutine forward_tl

  !> Adjoint, accumulating into x_ad and p_ad.
  subroutine forward_ad(self, p, linearisation, y_ad, x_ad, work, p_ad)
    class(network_correction), intent(in) :: self
    real(rk), intent(in) :: p(self%n_parameters)
    real(rk), intent(in) :: linearisation(self%n_linearisation)
    real(rk), intent(in) :: y_ad(self%n)
    real(rk), intent(inout) :: x_ad(self%n)
    real(rk), intent(inout) :: work(self%n_work)
    real(rk), intent(inout), optional :: p_ad(self%n_parameters)

    integer :: i, n_inputs

    n_inputs = self%net%n_inputs
    work(1:n_inputs) = 0.0_rk
    call self%net%forward_ad(1, p, linearisation, y_ad, work(1:n_inputs), work(n_inputs + 1:), &
      & p_ad)
    do i = 1, self%n
      x_ad(i) = x_ad(i) + work(i)
    end do
  end subroutine forward_ad

end module pybridge_correction
