! SPDX-License-Identifier: MIT
!> Minimisers of a quadratic function `q(x) = 1/2 x^T A x - b^T x`, given as a linear operator.
module pybridge_minimiser
  use pybridge_kinds, only: rk
  use pybridge_linear_algebra, only: dot
  use pybridge_status, only: status_not_converged, status_ok
  implicit none
  private
  public :: conjugate_gradients, linear_operator, minimiser_workspace, quadratic_minimiser

  !> A square matrix known by its products alone. Unlike the operators of assimilation it may own
  !> scratch space, and so is `intent(inout)`.
  type, abstract :: linear_operator
    !> Size
    integer :: n = 0
  contains
    procedure(apply_interface), deferred :: apply
  end type linear_operator

  !> What a minimiser needs and what it leaves behind. Owned by the caller.
  type :: minimiser_workspace
    !> Iterations made
    integer :: n_iterations = 0
    !> Whether the gradient norm was reduced as asked
    logical :: converged = .false.
    !> The quadratic function after each iteration, from 0 at iteration 0
    real(rk), allocatable :: decrease(:)
    !> Norm of its gradient after each iteration
    real(rk), allocatable :: gradient_norm(:)
    !> Step length and direction factor of each iteration: the Lanczos matrix, were it wanted
    real(rk), allocatable :: alpha(:), beta(:)
    !> Residual, preconditioned residual, direction, and A times the direction
    real(rk), allocatable :: r(:), z(:), d(:), a_d(:)
    !> Residuals of all iterations and the same preconditioned, kept for reorthogonalisation
    real(rk), allocatable :: kept(:, :), kept_preconditioned(:, :)
    !> Inner product of each pair of these
    real(rk), allocatable :: kept_norm(:)
  contains
    procedure :: prepare
  end type minimiser_workspace

  type, abstract :: quadratic_minimiser
    !> Most iterations
    integer :: max_iterations = 50
    !> Stop when the gradient norm is below this times that at the start
    real(rk) :: tolerance = 1.0e-3_rk
  contains
    procedure(minimise_interface), deferred :: minimise
  end type quadratic_minimiser

  !> Preconditioned conjugate gradients (Hestenes and Stiefel 1952).
  type, extends(quadratic_minimiser) :: conjugate_gradients
    !> Orthogonalise each residual against all before it, which rounding would else spoil
    logical :: reorthogonalise = .false.
  contains
    procedure :: minimise
  end type conjugate_gradients

  abstract interface

    !> `a_x <- A x`.
    subroutine apply_interface(self, x, a_x, status)
      import :: linear_operator, rk
      implicit none
      class(linear_operator), intent(inout) :: self
      !> Factor
      real(rk), intent(in) :: x(self%n)
      !> Product
      real(rk), intent(out) :: a_x(self%n)
      !> Zero, or a code of `pybridge_status`
      integer, intent(out) :: status
    end subroutine apply_interface

    !> Minimise the quadratic function, from x = 0.
    subroutine minimise_interface(self, operator, b, x, workspace, status, preconditioner)
      import :: linear_operator, minimiser_workspace, quadratic_minimiser, rk
      implicit none
      class(quadratic_minimiser), intent(in) :: self
      !> A, symmetric and positive definite
      class(linear_operator), intent(inout) :: operator
      !> Right-hand side
      real(rk), intent(in) :: b(operator%n)
      !> The minimum, or the best found
      real(rk), intent(out) :: x(operator%n)
      !> Prepared workspace, with the history
      type(minimiser_workspace), intent(inout) :: workspace
      !> What the operator reported; `status_not_converged` when A or the preconditioner turns
      !> out not to be positive definite (a wrong adjoint, or NaN). Reaching `max_iterations` is
      !> no failure.
      integer, intent(out) :: status
      !> Approximate inverse of A, symmetric and positive definite; absent means the identity
      class(linear_operator), intent(inout), optional :: preconditioner
    end subroutine minimise_interface

  end interface

contains

  !> Allocate for a size and a number of iterations, unless that is done already.
  subroutine prepare(self, n, max_iterations, reorthogonalise, preconditioned)
    class(minimiser_workspace), intent(inout) :: self
    !> Size of the problem
    integer, intent(in) :: n
    !> Most iterations
    integer, intent(in) :: max_iterations
    !> Whether residuals are kept
    logical, intent(in) :: reorthogonalise
    !> Whether there will be a preconditioner
    logical, intent(in) :: preconditioned

    logical :: fits

    fits = allocated(self%r)
    if (fits) fits = size(self%r) == n .and. size(self%alpha) == max_iterations &
      & .and. (allocated(self%kept) .or. .not. reorthogonalise) &
      & .and. (allocated(self%kept_preconditioned) .or. .not. (reorthogonalise .and. &
      & preconditioned)) .and. (size(self%z) == n .or. .not. preconditioned)
    if (fits) return
    if (allocated(self%r)) deallocate (self%r, self%z, self%d, self%a_d, self%decrease, &
      & self%gradient_norm, self%alpha, self%beta)
    if (allocated(self%kept)) deallocate (self%kept, self%kept_norm)
    if (allocated(self%kept_preconditioned)) deallocate (self%kept_preconditioned)
    allocate (self%r(n), self%d(n), self%a_d(n), source=0.0_rk)
    allocate (self%z(merge(n, 0, preconditioned)), source=0.0_rk)
    allocate (self%decrease(0:max_iterations), self%gradient_norm(0:max_iterations), &
      & self%alpha(max_iterations), self%beta(max_iterations), source=0.0_rk)
    if (reorthogonalise) then
      allocate (self%kept(n, max_iterations), self%kept_norm(max_iterations), source=0.0_rk)
      if (preconditioned) allocate (self%kept_preconditioned(n, max_iterations), source=0.0_rk)
    end if
  end subroutine prepare

  subroutine minimise(self, operator, b, x, workspace, status, preconditioner)
    class(conjugate_gradients), intent(in) :: self
    class(linear_operator), intent(inout) :: operator
    real(rk), intent(in) :: b(operator%n)
    real(rk), intent(out) :: x(operator%n)
    type(minimiser_workspace), intent(inout) :: workspace
    integer, intent(out) :: status
    class(linear_operator), intent(inout), optional :: preconditioner

    integer :: i, iteration, j, n
    real(rk) :: alpha, beta, curvature, overlap, r_z, r_z_new

    n = operator%n
    status = status_ok
    workspace%n_iterations = 0
    workspace%converged = .false.
    workspace%decrease(0) = 0.0_rk
    workspace%gradient_norm(0) = sqrt(dot(n, b, b))
    do i = 1, n
      x(i) = 0.0_rk
      workspace%r(i) = b(i)
    end do
    if (.not. workspace%gradient_norm(0) > 0.0_rk) then
      workspace%converged = workspace%gradient_norm(0) <= 0.0_rk
      if (.not. workspace%converged) status = status_not_converged
      return
    end if

    associate (r => workspace%r, z => workspace%z, d => workspace%d, a_d => workspace%a_d)
      r_z = 0.0_rk
      do iteration = 1, self%max_iterations
        if (present(preconditioner)) then
          call preconditioner%apply(r, z, status)
          if (status /= status_ok) return
          r_z_new = dot(n, r, z)
        else
          r_z_new = dot(n, r, r)
        end if
        if (.not. r_z_new > 0.0_rk) then
          status = status_not_converged
          return
        end if
        beta = 0.0_rk
        if (iteration > 1) beta = r_z_new/r_z
        r_z = r_z_new
        if (present(preconditioner)) then
          do i = 1, n
            d(i) = z(i) + beta*d(i)
          end do
        else
          do i = 1, n
            d(i) = r(i) + beta*d(i)
          end do
        end if
        if (self%reorthogonalise) then
          workspace%kept(:, iteration) = r
          if (present(preconditioner)) workspace%kept_preconditioned(:, iteration) = z
          workspace%kept_norm(iteration) = r_z
        end if

        call operator%apply(d, a_d, status)
        if (status /= status_ok) return
        curvature = dot(n, d, a_d)
        if (.not. (curvature > 0.0_rk .and. curvature <= huge(curvature))) then
          status = status_not_converged
          return
        end if
        alpha = r_z/curvature
        do i = 1, n
          x(i) = x(i) + alpha*d(i)
          r(i) = r(i) - alpha*a_d(i)
        end do
        if (self%reorthogonalise) then
          do j = iteration, 1, -1
            if (present(preconditioner)) then
              overlap = dot(n, r, workspace%kept_preconditioned(:, j))/workspace%kept_norm(j)
            else
              overlap = dot(n, r, workspace%kept(:, j))/workspace%kept_norm(j)
            end if
            do i = 1, n
              r(i) = r(i) - overlap*workspace%kept(i, j)
            end do
          end do
        end if

        workspace%n_iterations = iteration
        workspace%alpha(iteration) = alpha
        workspace%beta(iteration) = beta
        workspace%decrease(iteration) = workspace%decrease(iteration - 1) - 0.5_rk*alpha*r_z
        workspace%gradient_norm(iteration) = sqrt(dot(n, r, r))
        if (workspace%gradient_norm(iteration) <= self%tolerance*workspace%gradient_norm(0)) then
          workspace%converged = .true.
          return
        end if
      end do
    end associate
  end subroutine minimise

end module pybridge_minimiser
