! SPDX-License-Identifier: MIT
!> The few dense operations of assimilation: dot product, Cholesky factor, triangular products.
!>
!> Products are written as sums of columns, four at a time, which compilers vectorise without
!> being allowed to reorder sums.
module pybridge_linear_algebra
  use pybridge_finite, only: is_bounded
  use pybridge_kinds, only: rk
  use pybridge_status, only: status_invalid_argument, status_not_positive_definite, status_ok
  implicit none
  private
  public :: add_lower_product, add_upper_product, cholesky, dot

contains

  !> Dot product.
  pure function dot(n, x, y) result(s)
    !> Size
    integer, intent(in) :: n
    !> First factor
    real(rk), intent(in) :: x(n)
    !> Second factor
    real(rk), intent(in) :: y(n)
    real(rk) :: s

    integer :: i

    s = 0.0_rk
    !$omp simd reduction(+:s)
    do i = 1, n
      s = s + x(i)*y(i)
    end do
  end function dot

  !> Cholesky factor of a symmetric positive definite matrix: `a = root*transpose(root)`.
  pure subroutine cholesky(n, a, root, status)
    !> Size
    integer, intent(in) :: n
    !> Matrix, symmetric to a relative 1e-10
    real(rk), intent(in) :: a(n, n)
    !> Lower triangular factor; zero above the diagonal
    real(rk), intent(out) :: root(n, n)
    !> `status_invalid_argument` when not symmetric or not finite, `status_not_positive_definite`
    integer, intent(out) :: status

    integer :: i, j, l
    real(rk) :: pivot, scale

    status = status_invalid_argument
    if (.not. is_bounded(n*n, a, huge(1.0_rk))) return
    scale = 0.0_rk
    do j = 1, n
      scale = max(scale, abs(a(j, j)))
    end do
    do j = 1, n
      do i = 1, j - 1
        if (abs(a(i, j) - a(j, i)) > 1.0e-10_rk*scale) return
      end do
    end do

    status = status_not_positive_definite
    root = 0.0_rk
    do j = 1, n
      root(j:n, j) = a(j:n, j)
    end do
    do j = 1, n
      do l = 1, j - 1
        do i = j, n
          root(i, j) = root(i, j) - root(i, l)*root(j, l)
        end do
      end do
      pivot = root(j, j)
      ! A pivot that rounding alone could have made is no evidence of definiteness.
      if (.not. pivot > real(n, rk)*epsilon(1.0_rk)*abs(a(j, j))) return
      pivot = 1.0_rk/sqrt(pivot)
      do i = j, n
        root(i, j) = root(i, j)*pivot
      end do
    end do
    status = status_ok
  end subroutine cholesky

  !> `y <- y + a x` with a lower triangular matrix, zero above its diagonal.
  pure subroutine add_lower_product(n, a, x, y)
    !> Size
    integer, intent(in) :: n
    !> Matrix
    real(rk), intent(in) :: a(n, n)
    !> Factor
    real(rk), intent(in) :: x(n)
    !> Result, accumulated
    real(rk), intent(inout) :: y(n)

    integer :: i, j, n_blocked

    n_blocked = n - mod(n, 4)
    do j = 1, n_blocked, 4
      do i = j, n
        y(i) = y(i) + (a(i, j)*x(j) + a(i, j + 1)*x(j + 1)) &
          & + (a(i, j + 2)*x(j + 2) + a(i, j + 3)*x(j + 3))
      end do
    end do
    do j = n_blocked + 1, n
      do i = j, n
        y(i) = y(i) + a(i, j)*x(j)
      end do
    end do
  end subroutine add_lower_product

  !> `y <- y + a x` with an upper triangular matrix, zero below its diagonal.
  pure subroutine add_upper_product(n, a, x, y)
    !> Size
    integer, intent(in) :: n
    !> Matrix
    real(rk), intent(in) :: a(n, n)
    !> Factor
    real(rk), intent(in) :: x(n)
    !> Result, accumulated
    real(rk), intent(inout) :: y(n)

    integer :: i, j, n_blocked

    n_blocked = n - mod(n, 4)
    do j = 1, n_blocked, 4
      do i = 1, j + 3
        y(i) = y(i) + (a(i, j)*x(j) + a(i, j + 1)*x(j + 1)) &
          & + (a(i, j + 2)*x(j + 2) + a(i, j + 3)*x(j + 3))
      end do
    end do
    do j = n_blocked + 1, n
      do i = 1, j
        y(i) = y(i) + a(i, j)*x(j)
      end do
    end do
  end subroutine add_upper_product

end module pybridge_linear_algebra
