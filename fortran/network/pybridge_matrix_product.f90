! SPDX-License-Identifier: MIT
!> Matrix products for small and middling networks, where a BLAS call's overhead would dominate.
!>
!> The three products of a linear layer `Y = W X`, each of them accumulating:
!>
!>     add_product             Y    <- Y    + W    X          (forward, tangent linear)
!>     add_product_transposed  X_ad <- X_ad + W^T  Y_ad       (adjoint of X)
!>     add_outer_product       W_ad <- W_ad + Y_ad X^T        (adjoint of W)
!>
!> Matrices are column-major, in flat arrays with a leading dimension. The leading dimension of X
!> and X_ad may be smaller than their number of rows: the columns then overlap, which makes a
!> convolution over contiguous windows a plain matrix product, without copies.
!>
!> All three run on one kernel, `C(i, c) += sum_t A(i, t) b(c, t)`: rows are vector lanes, eight
!> columns share each load of A, and the sums stay in registers. No reassociation of sums is
!> needed, hence no -ffast-math. The dot products of the adjoint for a batch of one say so by
!> `!$omp simd reduction`.
module pybridge_matrix_product
  use pybridge_kinds, only: rk
  implicit none
  private
  public :: add_product, add_product_transposed, add_outer_product

  !> Rows handled as one padded block where their number is no multiple of it
  integer, parameter :: lanes = 8
  !> Rows and columns of the block of A that is kept in the cache
  integer, parameter :: block_rows = 64
  integer, parameter :: block_columns = 128
  !> Rows of X_ad whose transposed weights are packed together
  integer, parameter :: pack_rows = 32

contains

  !> `Y(m, n) += W(m, k) X(k, n)`
  pure subroutine add_product(m, n, k, w, ldw, x, ldx, y, ldy)
    !> Rows of Y and W
    integer, intent(in) :: m
    !> Columns of Y and X
    integer, intent(in) :: n
    !> Columns of W, rows of X
    integer, intent(in) :: k
    !> Leading dimension of W
    integer, intent(in) :: ldw
    !> Leading dimension of X; may be smaller than k
    integer, intent(in) :: ldx
    !> Leading dimension of Y, at least m
    integer, intent(in) :: ldy
    real(rk), intent(in) :: w(ldw*(k - 1) + m)
    real(rk), intent(in) :: x(ldx*(n - 1) + k)
    real(rk), intent(inout) :: y(ldy*(n - 1) + m)

    if (m < 1 .or. n < 1 .or. k < 1) return
    if (m == 1 .and. ldw == 1) then
      ! One output: the sums run along the columns of X
      call add_dot_products(k, n, x, ldx, w, y, ldy)
    else
      call add_general(m, n, k, w, ldw, x, ldx, 1, y, ldy)
    end if
  end subroutine add_product

  !> `X_ad(k, n) += W(m, k)^T Y_ad(m, n)`
  pure subroutine add_product_transposed(m, n, k, w, ldw, y_ad, ldy, x_ad, ldx)
    !> Rows of Y_ad and W
    integer, intent(in) :: m
    !> Columns of Y_ad and X_ad
    integer, intent(in) :: n
    !> Columns of W, rows of X_ad
    integer, intent(in) :: k
    integer, intent(in) :: ldw
    integer, intent(in) :: ldy
    !> Leading dimension of X_ad; may be smaller than k
    integer, intent(in) :: ldx
    real(rk), intent(in) :: w(ldw*(k - 1) + m)
    real(rk), intent(in) :: y_ad(ldy*(n - 1) + m)
    real(rk), intent(inout) :: x_ad(ldx*(n - 1) + k)

    real(rk) :: packed(pack_rows*block_columns)
    real(rk) :: tile(pack_rows*lanes)
    integer :: i, i0, j, j0, l, l0, columns, rows, width

    if (m < 1 .or. n < 1 .or. k < 1) return
    if (n < 4) then
      do j = 0, n - 1
        call add_dot_products(m, k, w, ldw, y_ad(ldy*j + 1), x_ad(ldx*j + 1), 1)
      end do
      return
    end if
    do i0 = 0, m - 1, block_columns
      columns = min(block_columns, m - i0)
      do l0 = 0, k - 1, pack_rows
        rows = min(pack_rows, k - l0)
        ! Rows are padded with zeros to whole vectors, unless the result is written in place
        width = rows
        if (ldx < k) width = lanes*((rows + lanes - 1)/lanes)
        do l = 1, rows
          do i = 1, columns
            packed((i - 1)*width + l) = w(ldw*(l0 + l - 1) + i0 + i)
          end do
        end do
        if (ldx >= k) then
          call add_general(rows, n, columns, packed, width, y_ad(i0 + 1), ldy, 1, &
            & x_ad(l0 + 1), ldx)
          cycle
        end if
        do l = rows + 1, width
          do i = 1, columns
            packed((i - 1)*width + l) = 0.0_rk
          end do
        end do
        ! Overlapping columns are added one after the other, from a tile of their own
        do j0 = 0, n - 1, lanes
          tile(1:width*lanes) = 0.0_rk
          call add_general(width, min(lanes, n - j0), columns, packed, width, &
            & y_ad(ldy*j0 + i0 + 1), ldy, 1, tile, width)
          do j = 1, min(lanes, n - j0)
            do l = 1, rows
              x_ad(ldx*(j0 + j - 1) + l0 + l) = x_ad(ldx*(j0 + j - 1) + l0 + l) &
                & + tile(width*(j - 1) + l)
            end do
          end do
        end do
      end do
    end do
  end subroutine add_product_transposed

  !> `W_ad(m, k) += Y_ad(m, n) X(k, n)^T`
  pure subroutine add_outer_product(m, n, k, y_ad, ldy, x, ldx, w_ad, ldw)
    !> Rows of Y_ad and W_ad
    integer, intent(in) :: m
    !> Columns of Y_ad and X
    integer, intent(in) :: n
    !> Columns of W_ad, rows of X
    integer, intent(in) :: k
    integer, intent(in) :: ldy
    !> Leading dimension of X; may be smaller than k
    integer, intent(in) :: ldx
    integer, intent(in) :: ldw
    real(rk), intent(in) :: y_ad(ldy*(n - 1) + m)
    real(rk), intent(in) :: x(ldx*(n - 1) + k)
    real(rk), intent(inout) :: w_ad(ldw*(k - 1) + m)

    if (m < 1 .or. n < 1 .or. k < 1) return
    if (m == 1 .and. ldw == 1) then
      call add_column(k, n, x, ldx, y_ad, ldy, w_ad)
    else
      call add_general(m, k, n, y_ad, ldy, x, 1, ldx, w_ad, ldw)
    end if
  end subroutine add_outer_product

  !> `C(i, c) += sum_t A(i, t) b(c, t)` for i = 1..m, c = 1..n, t = 1..k, in blocks of A that fit
  !> the cache.
  pure subroutine add_general(m, n, k, a, lda, b, stride_c, stride_t, c, ldc)
    integer, intent(in) :: m
    integer, intent(in) :: n
    integer, intent(in) :: k
    integer, intent(in) :: lda
    !> Distance in b between neighbouring columns c
    integer, intent(in) :: stride_c
    !> Distance in b between neighbouring terms t
    integer, intent(in) :: stride_t
    integer, intent(in) :: ldc
    real(rk), intent(in) :: a(lda*(k - 1) + m)
    real(rk), intent(in) :: b(stride_c*(n - 1) + stride_t*(k - 1) + 1)
    real(rk), intent(inout) :: c(ldc*(n - 1) + m)

    integer :: i0, t0, j, rows, terms, tail

    if (n == 1) then
      call add_column(m, k, a, lda, b, stride_t, c)
      return
    end if
    do t0 = 0, k - 1, block_columns
      terms = min(block_columns, k - t0)
      do i0 = 0, m - 1, block_rows
        rows = min(block_rows, m - i0)
        tail = modulo(rows, lanes)
        rows = rows - tail
        if (rows > 0) then
          do j = 0, n - 8, 8
            call add_eight(rows, terms, a(lda*t0 + i0 + 1), lda, &
              & b(stride_c*j + stride_t*t0 + 1), stride_c, stride_t, c(ldc*j + i0 + 1), ldc)
          end do
          if (n - j >= 4) then
            call add_four(rows, terms, a(lda*t0 + i0 + 1), lda, &
              & b(stride_c*j + stride_t*t0 + 1), stride_c, stride_t, c(ldc*j + i0 + 1), ldc)
            j = j + 4
          end if
          do j = j, n - 1
            call add_column(rows, terms, a(lda*t0 + i0 + 1), lda, &
              & b(stride_c*j + stride_t*t0 + 1), stride_t, c(ldc*j + i0 + 1))
          end do
        end if
        if (tail > 0) then
          call add_tail(tail, n, terms, a(lda*t0 + i0 + rows + 1), lda, b(stride_t*t0 + 1), &
            & stride_c, stride_t, c(i0 + rows + 1), ldc)
        end if
      end do
    end do
  end subroutine add_general

  !> The last rows of a block, fewer than a vector's lanes: padded with zeros.
  pure subroutine add_tail(m, n, k, a, lda, b, stride_c, stride_t, c, ldc)
    integer, intent(in) :: m
    integer, intent(in) :: n
    integer, intent(in) :: k
    integer, intent(in) :: lda
    integer, intent(in) :: stride_c
    integer, intent(in) :: stride_t
    integer, intent(in) :: ldc
    real(rk), intent(in) :: a(lda*(k - 1) + m)
    real(rk), intent(in) :: b(stride_c*(n - 1) + stride_t*(k - 1) + 1)
    real(rk), intent(inout) :: c(ldc*(n - 1) + m)

    real(rk) :: padded(lanes*block_columns)
    real(rk) :: tile(lanes*8)
    integer :: i, j, j0, t, columns

    if (n < 4) then
      do j = 0, n - 1
        call add_column(m, k, a, lda, b(stride_c*j + 1), stride_t, c(ldc*j + 1))
      end do
      return
    end if
    do t = 1, k
      do i = 1, m
        padded(lanes*(t - 1) + i) = a(lda*(t - 1) + i)
      end do
      do i = m + 1, lanes
        padded(lanes*(t - 1) + i) = 0.0_rk
      end do
    end do
    do j0 = 0, n - 1, 8
      columns = min(8, n - j0)
      tile = 0.0_rk
      if (columns == 8) then
        call add_eight(lanes, k, padded, lanes, b(stride_c*j0 + 1), stride_c, stride_t, tile, &
          & lanes)
      else
        do j = 0, columns - 1
          call add_column(lanes, k, padded, lanes, b(stride_c*(j0 + j) + 1), stride_t, &
            & tile(lanes*j + 1))
        end do
      end if
      do j = 1, columns
        do i = 1, m
          c(ldc*(j0 + j - 1) + i) = c(ldc*(j0 + j - 1) + i) + tile(lanes*(j - 1) + i)
        end do
      end do
    end do
  end subroutine add_tail

  !> Eight columns of the general product.
  pure subroutine add_eight(m, k, a, lda, b, stride_c, stride_t, c, ldc)
    integer, intent(in) :: m
    integer, intent(in) :: k
    integer, intent(in) :: lda
    integer, intent(in) :: stride_c
    integer, intent(in) :: stride_t
    integer, intent(in) :: ldc
    real(rk), intent(in) :: a(lda*(k - 1) + m)
    real(rk), intent(in) :: b(stride_c*7 + stride_t*(k - 1) + 1)
    real(rk), intent(inout) :: c(ldc*7 + m)

    integer :: i, t, q
    real(rk) :: w, s1, s2, s3, s4, s5, s6, s7, s8

    !$omp simd private(w, s1, s2, s3, s4, s5, s6, s7, s8, q)
    do i = 1, m
      s1 = 0.0_rk
      s2 = 0.0_rk
      s3 = 0.0_rk
      s4 = 0.0_rk
      s5 = 0.0_rk
      s6 = 0.0_rk
      s7 = 0.0_rk
      s8 = 0.0_rk
      do t = 0, k - 1
        w = a(lda*t + i)
        q = stride_t*t + 1
        s1 = s1 + w*b(q)
        s2 = s2 + w*b(q + stride_c)
        s3 = s3 + w*b(q + 2*stride_c)
        s4 = s4 + w*b(q + 3*stride_c)
        s5 = s5 + w*b(q + 4*stride_c)
        s6 = s6 + w*b(q + 5*stride_c)
        s7 = s7 + w*b(q + 6*stride_c)
        s8 = s8 + w*b(q + 7*stride_c)
      end do
      c(i) = c(i) + s1
      c(i + ldc) = c(i + ldc) + s2
      c(i + 2*ldc) = c(i + 2*ldc) + s3
      c(i + 3*ldc) = c(i + 3*ldc) + s4
      c(i + 4*ldc) = c(i + 4*ldc) + s5
      c(i + 5*ldc) = c(i + 5*ldc) + s6
      c(i + 6*ldc) = c(i + 6*ldc) + s7
      c(i + 7*ldc) = c(i + 7*ldc) + s8
    end do
  end subroutine add_eight

  !> Four columns of the general product.
  pure subroutine add_four(m, k, a, lda, b, stride_c, stride_t, c, ldc)
    integer, intent(in) :: m
    integer, intent(in) :: k
    integer, intent(in) :: lda
    integer, intent(in) :: stride_c
    integer, intent(in) :: stride_t
    integer, intent(in) :: ldc
    real(rk), intent(in) :: a(lda*(k - 1) + m)
    real(rk), intent(in) :: b(stride_c*3 + stride_t*(k - 1) + 1)
    real(rk), intent(inout) :: c(ldc*3 + m)

    integer :: i, t, q
    real(rk) :: w, s1, s2, s3, s4

    !$omp simd private(w, s1, s2, s3, s4, q)
    do i = 1, m
      s1 = 0.0_rk
      s2 = 0.0_rk
      s3 = 0.0_rk
      s4 = 0.0_rk
      do t = 0, k - 1
        w = a(lda*t + i)
        q = stride_t*t + 1
        s1 = s1 + w*b(q)
        s2 = s2 + w*b(q + stride_c)
        s3 = s3 + w*b(q + 2*stride_c)
        s4 = s4 + w*b(q + 3*stride_c)
      end do
      c(i) = c(i) + s1
      c(i + ldc) = c(i + ldc) + s2
      c(i + 2*ldc) = c(i + 2*ldc) + s3
      c(i + 3*ldc) = c(i + 3*ldc) + s4
    end do
  end subroutine add_four

  !> One column of the general product, `c(i) += sum_t A(i, t) b(t)`: eight terms a pass.
  pure subroutine add_column(m, k, a, lda, b, stride_t, c)
    integer, intent(in) :: m
    integer, intent(in) :: k
    integer, intent(in) :: lda
    integer, intent(in) :: stride_t
    real(rk), intent(in) :: a(lda*(k - 1) + m)
    real(rk), intent(in) :: b(stride_t*(k - 1) + 1)
    real(rk), intent(inout) :: c(m)

    integer :: i, t, q
    real(rk) :: b1, b2, b3, b4, b5, b6, b7, b8

    do t = 0, k - 8, 8
      q = stride_t*t + 1
      b1 = b(q)
      b2 = b(q + stride_t)
      b3 = b(q + 2*stride_t)
      b4 = b(q + 3*stride_t)
      b5 = b(q + 4*stride_t)
      b6 = b(q + 5*stride_t)
      b7 = b(q + 6*stride_t)
      b8 = b(q + 7*stride_t)
      q = lda*t
      !$omp simd
      do i = 1, m
        c(i) = c(i) + ((a(q + i)*b1 + a(q + lda + i)*b2) &
          & + (a(q + 2*lda + i)*b3 + a(q + 3*lda + i)*b4)) &
          & + ((a(q + 4*lda + i)*b5 + a(q + 5*lda + i)*b6) &
          & + (a(q + 6*lda + i)*b7 + a(q + 7*lda + i)*b8))
      end do
    end do
    do t = t, k - 1
      b1 = b(stride_t*t + 1)
      q = lda*t
      !$omp simd
      do i = 1, m
        c(i) = c(i) + a(q + i)*b1
      end do
    end do
  end subroutine add_column

  !> Dot products of the columns of A with one vector: `c(j) += sum_i A(i, j) b(i)`.
  pure subroutine add_dot_products(m, n, a, lda, b, c, stride_c)
    !> Length of the sums
    integer, intent(in) :: m
    !> Number of the sums
    integer, intent(in) :: n
    integer, intent(in) :: lda
    !> Distance between the results
    integer, intent(in) :: stride_c
    real(rk), intent(in) :: a(lda*(n - 1) + m)
    real(rk), intent(in) :: b(m)
    real(rk), intent(inout) :: c(stride_c*(n - 1) + 1)

    integer :: i, j, q
    real(rk) :: s1, s2, s3, s4

    do j = 0, n - 4, 4
      q = lda*j
      s1 = 0.0_rk
      s2 = 0.0_rk
      s3 = 0.0_rk
      s4 = 0.0_rk
      !$omp simd reduction(+:s1, s2, s3, s4)
      do i = 1, m
        s1 = s1 + a(q + i)*b(i)
        s2 = s2 + a(q + lda + i)*b(i)
        s3 = s3 + a(q + 2*lda + i)*b(i)
        s4 = s4 + a(q + 3*lda + i)*b(i)
      end do
      q = stride_c*j + 1
      c(q) = c(q) + s1
      c(q + stride_c) = c(q + stride_c) + s2
      c(q + 2*stride_c) = c(q + 2*stride_c) + s3
      c(q + 3*stride_c) = c(q + 3*stride_c) + s4
    end do
    do j = j, n - 1
      q = lda*j
      s1 = 0.0_rk
      !$omp simd reduction(+:s1)
      do i = 1, m
        s1 = s1 + a(q + i)*b(i)
      end do
      c(stride_c*j + 1) = c(stride_c*j + 1) + s1
    end do
  end subroutine add_dot_products

end module pybridge_matrix_product
