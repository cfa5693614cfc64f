! SPDX-License-Identifier: MIT
!> Status codes: every procedure that can fail returns one, and never stops the program.
!>
!> The values are part of the C ABI (`pybridge.h`) and are turned into typed exceptions by the
!> Python package; a value, once released, keeps its meaning.
module pybridge_status
  implicit none
  private
  public :: describe_status

  integer, parameter, public :: status_ok = 0
  !> An argument is out of its range
  integer, parameter, public :: status_invalid_argument = 1
  !> A size or shape does not fit
  integer, parameter, public :: status_wrong_shape = 2
  !> The state holds NaN, infinity, or a value beyond the model's blow-up limit
  integer, parameter, public :: status_blow_up = 3
  !> A procedure supplied by the user reported a failure
  integer, parameter, public :: status_user_procedure = 4
  !> A file could not be opened, read or written
  integer, parameter, public :: status_file_access = 5
  !> A file's content is not what its format asks for
  integer, parameter, public :: status_file_format = 6
  !> A file's checksum does not match its content
  integer, parameter, public :: status_checksum = 7
  !> A feature (a layer, an activation) is not implemented here
  integer, parameter, public :: status_unsupported = 8
  !> A covariance is not positive definite
  integer, parameter, public :: status_not_positive_definite = 9
  !> An observation lies outside the window or the state, or its error is not positive
  integer, parameter, public :: status_observation = 10
  !> A minimisation did not reduce the cost function
  integer, parameter, public :: status_not_converged = 11
  !> A handle is null
  integer, parameter, public :: status_null_handle = 12
  !> Memory could not be allocated
  integer, parameter, public :: status_out_of_memory = 13
  !> A reference result stored in a file is not reproduced
  integer, parameter, public :: status_self_test = 14
  !> The library was built without a part that is asked for
  integer, parameter, public :: status_not_available = 15

contains

  !> One sentence for a status code.
  !>
  !> A subroutine, since gfortran keeps the length of a function's deferred-length result in static
  !> memory, which threads would share.
  pure subroutine describe_status(status, text)
    !> Status code
    integer, intent(in) :: status
    !> The sentence
    character(len=:), allocatable, intent(out) :: text

    select case (status)
    case (status_ok)
      text = "no error"
    case (status_invalid_argument)
      text = "an argument is out of its range"
    case (status_wrong_shape)
      text = "a size or shape does not fit"
    case (status_blow_up)
      text = "the state holds NaN, infinity, or a value beyond the model's blow-up limit"
    case (status_user_procedure)
      text = "a procedure supplied by the user reported a failure"
    case (status_file_access)
      text = "a file could not be opened, read or written"
    case (status_file_format)
      text = "a file's content is not what its format asks for"
    case (status_checksum)
      text = "a file's checksum does not match its content"
    case (status_unsupported)
      text = "a layer or feature is not supported"
    case (status_not_positive_definite)
      text = "a covariance is not positive definite"
    case (status_observation)
      text = "an observation lies outside the window or the state, or its error is not positive"
    case (status_not_converged)
      text = "the minimisation did not reduce the cost function"
    case (status_null_handle)
      text = "a handle is null"
    case (status_out_of_memory)
      text = "memory could not be allocated"
    case (status_self_test)
      text = "a reference result stored in a file is not reproduced"
    case (status_not_available)
      text = "the library was built without this part"
    case default
      text = "unknown status code"
    end select
  end subroutine describe_status

end module pybridge_status
