! SPDX-License-Identifier: MIT
!> Background error covariances B as control-variable transforms: `B = U U^T`, with `dx = U v`.
!>
!> Assimilation minimises over v, whose background error covariance is the identity. It needs U
!> and its adjoint alone: neither B nor an inverse is ever formed.
module pybridge_background
  use pybridge_finite, only: is_bounded
  use pybridge_kinds, only: rk
  use pybridge_linear_algebra, only: add_lower_product, add_upper_product, cholesky
  use pybridge_status, only: status_invalid_argument, status_not_positive_definite, status_ok
  implicit none
  private
  public :: background_covariance
  public :: diagonal_covariance, new_diagonal_covariance
  public :: full_covariance, new_full_covariance

  !> Configuration only, `intent(in)` in every verb; scratch space is the caller's.
  type, abstract :: background_covariance
    !> Size of the state, or of whatever block of the control vector it describes
    integer :: n_state = 0
    !> Size of the control variable v, which may differ from the state's
    integer :: n_control = 0
    !> Values of scratch space
    integer :: n_work = 0
  contains
    procedure(forward_interface), deferred :: forward
    procedure(forward_ad_interface), deferred :: forward_ad
    procedure :: forward_tl
    procedure :: apply
  end type background_covariance

  abstract interface

    !> The transform: `dx <- U v`.
    subroutine forward_interface(self, v, dx, work)
      import :: background_covariance, rk
      implicit none
      class(background_covariance), intent(in) :: self
      !> Control variable
      real(rk), intent(in) :: v(self%n_control)
      !> Perturbation of the state
      real(rk), intent(out) :: dx(self%n_state)
      !> Scratch space
      real(rk), intent(inout) :: work(self%n_work)
    end subroutine forward_interface

    !> Its adjoint, accumulating: `v_ad <- v_ad + U^T dx_ad`.
    subroutine forward_ad_interface(self, dx_ad, v_ad, work)
      import :: background_covariance, rk
      implicit none
      class(background_covariance), intent(in) :: self
      !> Adjoint of the perturbation
      real(rk), intent(in) :: dx_ad(self%n_state)
      !> Adjoint of the control variable, accumulated
      real(rk), intent(inout) :: v_ad(self%n_control)
      !> Scratch space
      real(rk), intent(inout) :: work(self%n_work)
    end subroutine forward_ad_interface

  end interface

  !> Uncorrelated errors: U multiplies by the standard deviations.
  type, extends(background_covariance) :: diagonal_covariance
    !> Standard deviations, shape (n_state)
    real(rk), allocatable :: sigma(:)
  contains
    procedure :: forward => diagonal_forward
    procedure :: forward_ad => diagonal_forward_ad
  end type diagonal_covariance

  !> A matrix held whole: U is its Cholesky factor.
  type, extends(background_covariance) :: full_covariance
    !> Lower triangular factor, shape (n_state, n_state)
    real(rk), allocatable :: root(:, :)
    !> The same transposed, so that the adjoint too reads memory in order
    real(rk), allocatable :: root_transposed(:, :)
  contains
    procedure :: forward => full_forward
    procedure :: forward_ad => full_forward_ad
  end type full_covariance

contains

  !> Tangent linear of `forward`, which is linear: the same.
  subroutine forward_tl(self, dv, dx, work)
    class(background_covariance), intent(in) :: self
    !> Perturbation of the control variable
    real(rk), intent(in) :: dv(self%n_control)
    !> Perturbation of the state
    real(rk), intent(out) :: dx(self%n_state)
    !> Scratch space
    real(rk), intent(inout) :: work(self%n_work)

    call self%forward(dv, dx, work)
  end subroutine forward_tl

  !> The covariance itself: `b_x <- B x`.
  subroutine apply(self, x, b_x, v, work)
    class(background_covariance), intent(in) :: self
    !> Factor
    real(rk), intent(in) :: x(self%n_state)
    !> Product
    real(rk), intent(out) :: b_x(self%n_state)
    !> Scratch space in control space
    real(rk), intent(inout) :: v(self%n_control)
    !> Scratch space
    real(rk), intent(inout) :: work(self%n_work)

    v = 0.0_rk
    call self%forward_ad(x, v, work)
    call self%forward(v, b_x, work)
  end subroutine apply

  !> Make a diagonal covariance from standard deviations.
  subroutine new_diagonal_covariance(covariance, sigma, status)
    type(diagonal_covariance), intent(out) :: covariance
    !> Standard deviations, positive and finite, in the state's units
    real(rk), intent(in) :: sigma(:)
    !> `status_not_positive_definite` when a value is not positive, `status_invalid_argument`
    !> when one is not finite or there is none
    integer, intent(out) :: status

    status = status_invalid_argument
    if (size(sigma) < 1) return
    if (.not. is_bounded(size(sigma), sigma, huge(1.0_rk))) return
    status = status_not_positive_definite
    if (.not. all(sigma > 0.0_rk)) return
    covariance%n_state = size(sigma)
    covariance%n_control = size(sigma)
    covariance%sigma = sigma
    status = status_ok
  end subroutine new_diagonal_covariance

  subroutine diagonal_forward(self, v, dx, work)
    class(diagonal_covariance), intent(in) :: self
    real(rk), intent(in) :: v(self%n_control)
    real(rk), intent(out) :: dx(self%n_state)
    real(rk), intent(inout) :: work(self%n_work)

    integer :: i

    associate (unused_work => work)
    end associate
    do i = 1, self%n_state
      dx(i) = self%sigma(i)*v(i)
    end do
  end subroutine diagonal_forward

  subroutine diagonal_forward_ad(self, dx_ad, v_ad, work)
    class(diagonal_covariance), intent(in) :: self
    real(rk), intent(in) :: dx_ad(self%n_state)
    real(rk), intent(inout) :: v_ad(self%n_control)
    real(rk), intent(inout) :: work(self%n_work)

    integer :: i

    associate (unused_work => work)
    end associate
    do i = 1, self%n_state
      v_ad(i) = v_ad(i) + self%sigma(i)*dx_ad(i)
    end do
  end subroutine diagonal_forward_ad

  !> Make a covariance from its matrix.
  subroutine new_full_covariance(covariance, matrix, status)
    type(full_covariance), intent(out) :: covariance
    !> Symmetric positive definite matrix, shape (n, n), in the state's units squared
    real(rk), intent(in) :: matrix(:, :)
    !> `status_invalid_argument` when not square, not finite or not symmetric,
    !> `status_not_positive_definite`
    integer, intent(out) :: status

    integer :: n

    n = size(matrix, 1)
    status = status_invalid_argument
    if (n < 1 .or. size(matrix, 2) /= n) return
    covariance%n_state = n
    covariance%n_control = n
    allocate (covariance%root(n, n))
    call cholesky(n, matrix, covariance%root, status)
    if (status /= status_ok) return
    covariance%root_transposed = transpose(covariance%root)
  end subroutine new_full_covariance

  subroutine full_forward(self, v, dx, work)
    class(full_covariance), intent(in) :: self
    real(rk), intent(in) :: v(self%n_control)
    real(rk), intent(out) :: dx(self%n_state)
    real(rk), intent(inout) :: work(self%n_work)

    associate (unused_work => work)
    end associate
    dx = 0.0_rk
    call add_lower_product(self%n_state, self%root, v, dx)
  end subroutine full_forward

  subroutine full_forward_ad(self, dx_ad, v_ad, work)
    class(full_covariance), intent(in) :: self
    real(rk), intent(in) :: dx_ad(self%n_state)
    real(rk), intent(inout) :: v_ad(self%n_control)
    real(rk), intent(inout) :: work(self%n_work)

    associate (unused_work => work)
    end associate
    call add_upper_product(self%n_state, self%root_transposed, dx_ad, v_ad)
  end subroutine full_forward_ad

end module pybridge_background
