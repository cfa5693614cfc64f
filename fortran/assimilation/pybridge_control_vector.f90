! SPDX-License-Identifier: MIT
!> The control vector: a list of named blocks, each with its own background error covariance.
!>
!> In control space (v) the background error covariance of all blocks together is the identity;
!> `forward` goes from there to physical space (z), block by block.
module pybridge_control_vector
  use pybridge_background, only: background_covariance
  use pybridge_kinds, only: rk
  use pybridge_status, only: status_invalid_argument, status_ok
  implicit none
  private
  public :: control_block, control_vector

  !> One block: the state at the window's start, parameters, later forcings and biases.
  type :: control_block
    character(len=:), allocatable :: name
    !> Where the block begins in control space (before its first value)
    integer :: control_offset = 0
    !> Where it begins in physical space (before its first value)
    integer :: physical_offset = 0
    class(background_covariance), allocatable :: covariance
  end type control_block

  type :: control_vector
    !> Size in control space
    integer :: n_control = 0
    !> Size in physical space
    integer :: n_physical = 0
    !> Scratch space, the largest that any covariance needs
    integer :: n_work = 0
    type(control_block), allocatable :: blocks(:)
  contains
    procedure :: add
    procedure :: find
    procedure :: forward
    procedure :: forward_tl
    procedure :: forward_ad
  end type control_vector

contains

  !> Add a block at the end. Its covariance is copied.
  subroutine add(self, name, covariance, status)
    class(control_vector), intent(inout) :: self
    !> Name, not used before
    character(len=*), intent(in) :: name
    !> Background error covariance of the block
    class(background_covariance), intent(in) :: covariance
    !> `status_invalid_argument` when the name is taken
    integer, intent(out) :: status

    type(control_block), allocatable :: blocks(:)
    integer :: b, n_blocks

    status = status_invalid_argument
    if (self%find(name) > 0) return
    n_blocks = 0
    if (allocated(self%blocks)) n_blocks = size(self%blocks)
    allocate (blocks(n_blocks + 1))
    do b = 1, n_blocks
      call move_alloc(self%blocks(b)%name, blocks(b)%name)
      blocks(b)%control_offset = self%blocks(b)%control_offset
      blocks(b)%physical_offset = self%blocks(b)%physical_offset
      call move_alloc(self%blocks(b)%covariance, blocks(b)%covariance)
    end do
    blocks(n_blocks + 1)%name = name
    blocks(n_blocks + 1)%control_offset = self%n_control
    blocks(n_blocks + 1)%physical_offset = self%n_physical
    allocate (blocks(n_blocks + 1)%covariance, source=covariance)
    call move_alloc(blocks, self%blocks)
    self%n_control = self%n_control + covariance%n_control
    self%n_physical = self%n_physical + covariance%n_state
    self%n_work = max(self%n_work, covariance%n_work)
    status = status_ok
  end subroutine add

  !> Number of a block, or zero when there is none of that name.
  pure function find(self, name) result(number)
    class(control_vector), intent(in) :: self
    !> Name of the block
    character(len=*), intent(in) :: name
    integer :: number

    if (allocated(self%blocks)) then
      do number = 1, size(self%blocks)
        if (self%blocks(number)%name == name) return
      end do
    end if
    number = 0
  end function find

  !> From control to physical space: `dz <- U v`.
  subroutine forward(self, v, dz, work)
    class(control_vector), intent(in) :: self
    !> Control vector
    real(rk), intent(in) :: v(self%n_control)
    !> Departure from the background in physical space
    real(rk), intent(out) :: dz(self%n_physical)
    !> Scratch space
    real(rk), intent(inout) :: work(self%n_work)

    integer :: b

    do b = 1, size(self%blocks)
      associate (covariance => self%blocks(b)%covariance, i => self%blocks(b)%control_offset, &
        & j => self%blocks(b)%physical_offset)
        call covariance%forward(v(i + 1:i + covariance%n_control), &
          & dz(j + 1:j + covariance%n_state), work)
      end associate
    end do
  end subroutine forward

  !> Tangent linear of `forward`, which is linear: the same.
  subroutine forward_tl(self, dv, dz, work)
    class(control_vector), intent(in) :: self
    !> Perturbation in control space
    real(rk), intent(in) :: dv(self%n_control)
    !> Perturbation in physical space
    real(rk), intent(out) :: dz(self%n_physical)
    !> Scratch space
    real(rk), intent(inout) :: work(self%n_work)

    call self%forward(dv, dz, work)
  end subroutine forward_tl

  !> Adjoint of `forward`, accumulating: `v_ad <- v_ad + U^T dz_ad`.
  subroutine forward_ad(self, dz_ad, v_ad, work)
    class(control_vector), intent(in) :: self
    !> Adjoint in physical space
    real(rk), intent(in) :: dz_ad(self%n_physical)
    !> Adjoint in control space, accumulated
    real(rk), intent(inout) :: v_ad(self%n_control)
    !> Scratch space
    real(rk), intent(inout) :: work(self%n_work)

    integer :: b

    do b = 1, size(self%blocks)
      associate (covariance => self%blocks(b)%covariance, i => self%blocks(b)%control_offset, &
        & j => self%blocks(b)%physical_offset)
        call covariance%forward_ad(dz_ad(j + 1:j + covariance%n_state), &
          & v_ad(i + 1:i + covariance%n_control), work)
      end associate
    end do
  end subroutine forward_ad

end module pybridge_control_vector
