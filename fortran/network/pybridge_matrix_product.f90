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
!> All three run on one kernel, `C(i, c) += sum_t A(i, t) B(t, c)`: rows are vector lanes, eight
!> columns share each load of A, and the sums stay in registers. No reassociation of sums
!> is needed, hence no -ffast-math. Where a sum is shared among lanes after all, it is written so.
module pybridge_matrix_product
  use pybridge_kinds, only: rk
  implicit none
  private
  public :: add_product, add_product_transposed, add_outer_product

  !> Rows of a strip: one vector of AVX-512, two of AVX2
  integer, parameter :: lanes = 8
  !> Rows and columns of the block of A that is kept in the cache. In bytes it stays well below the
  !> 65536 above which gfortran makes a local array static, which threads would share.
  integer, parameter :: block_rows = 64
  integer, parameter :: block_columns = 96

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
      call add_general(m, n, k, w, ldw, x, ldx, .false., y, ldy)
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

    real(rk) :: packed(block_rows*block_columns)
    real(rk) :: tile(block_rows*8)
    integer :: i0, j, j0, l, l0, columns, rows, terms

    if (m < 1 .or. n < 1 .or. k < 1) return
    if (m == 1 .and. ldw == 1) then
      do j = 0, n - 1
        do l = 1, k
          x_ad(ldx*j + l) = x_ad(ldx*j + l) + w(l)*y_ad(ldy*j + 1)
        end do
      end do
      return
    else if (n < 4) then
      do j = 0, n - 1
        call add_dot_products(m, k, w, ldw, y_ad(ldy*j + 1), x_ad(ldx*j + 1), 1)
      end do
      return
    end if
    do i0 = 0, m - 1, block_columns
      terms = min(block_columns, m - i0)
      do l0 = 0, k - 1, block_rows
        rows = min(block_rows, k - l0)
        call pack_transposed(rows, terms, w(ldw*l0 + i0 + 1), ldw, packed)
        do j0 = 0, n - 1, 8
          columns = min(8, n - j0)
          if (ldx >= k) then
            call add_strips(rows, columns, terms, packed, y_ad(ldy*j0 + i0 + 1), ldy, &
              & x_ad(ldx*j0 + l0 + 1), ldx)
            cycle
          end if
          ! Overlapping columns are added one after the other
          tile(1:rows*columns) = 0.0_rk
          call add_strips(rows, columns, terms, packed, y_ad(ldy*j0 + i0 + 1), ldy, tile, rows)
          do j = 0, columns - 1
            do l = 1, rows
              x_ad(ldx*(j0 + j) + l0 + l) = x_ad(ldx*(j0 + j) + l0 + l) + tile(rows*j + l)
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

    integer :: i, l

    if (m < 1 .or. n < 1 .or. k < 1) return
    if (m == 1 .and. ldw == 1) then
      call add_column(k, n, x, ldx, y_ad, ldy, w_ad)
    else if (n == 1) then
      do l = 0, k - 1
        do i = 1, m
          w_ad(ldw*l + i) = w_ad(ldw*l + i) + y_ad(i)*x(l + 1)
        end do
      end do
    else
      call add_general(m, k, n, y_ad, ldy, x, ldx, .true., w_ad, ldw)
    end if
  end subroutine add_outer_product

  !> `C(i, c) += sum_t A(i, t) B(t, c)` for i = 1..m, c = 1..n, t = 1..k.
  !>
  !> A is packed, in blocks that fit the cache, into strips of eight rows, the last one padded with
  !> zeros: with a stride of A that is known when compiling, the kernels are vectorised over rows.
  pure subroutine add_general(m, n, k, a, lda, b, ldb, b_is_transposed, c, ldc)
    integer, intent(in) :: m
    integer, intent(in) :: n
    integer, intent(in) :: k
    integer, intent(in) :: lda
    integer, intent(in) :: ldb
    !> Whether b holds the transpose of B, with c its fast index
    logical, intent(in) :: b_is_transposed
    integer, intent(in) :: ldc
    real(rk), intent(in) :: a(lda*(k - 1) + m)
    real(rk), intent(in) :: b(*)
    real(rk), intent(inout) :: c(ldc*(n - 1) + m)

    real(rk) :: packed(block_rows*block_columns)
    real(rk) :: panel(8*block_columns)
    integer :: i0, j, q, t, t0, columns, rows, terms

    if (n == 1) then
      call add_column(m, k, a, lda, b, merge(ldb, 1, b_is_transposed), c)
      return
    end if
    do t0 = 0, k - 1, block_columns
      terms = min(block_columns, k - t0)
      do i0 = 0, m - 1, block_rows
        rows = min(block_rows, m - i0)
        call pack(rows, terms, a(lda*t0 + i0 + 1), lda, packed)
        do j = 0, n - 1, 8
          columns = min(8, n - j)
          if (b_is_transposed) then
            if (columns < 8) panel(1:8*terms) = 0.0_rk
            do t = 0, terms - 1
              do q = 1, columns
                panel(8*t + q) = b(ldb*(t0 + t) + j + q)
              end do
            end do
            call add_strips_of_panel(rows, columns, terms, packed, panel, c(ldc*j + i0 + 1), ldc)
          else
            call add_strips(rows, columns, terms, packed, b(ldb*j + t0 + 1), ldb, &
              & c(ldc*j + i0 + 1), ldc)
          end if
        end do
      end do
    end do
  end subroutine add_general

  !> Cut A into strips of eight rows, each contiguous, and pad the last one with zeros.
  pure subroutine pack(m, k, a, lda, packed)
    integer, intent(in) :: m
    integer, intent(in) :: k
    integer, intent(in) :: lda
    real(rk), intent(in) :: a(lda*(k - 1) + m)
    real(rk), intent(out) :: packed(lanes*((m + lanes - 1)/lanes)*k)

    integer :: i, i0, q, t

    q = 0
    do i0 = 0, m - 1, lanes
      if (m - i0 >= lanes) then
        do t = 0, k - 1
          do i = 1, lanes
            packed(q + i) = a(lda*t + i0 + i)
          end do
          q = q + lanes
        end do
      else
        do t = 0, k - 1
          packed(q + 1:q + m - i0) = a(lda*t + i0 + 1:lda*t + m)
          packed(q + m - i0 + 1:q + lanes) = 0.0_rk
          q = q + lanes
        end do
      end if
    end do
  end subroutine pack

  !> The same for the transpose of A, whose m columns become rows.
  pure subroutine pack_transposed(m, k, a, lda, packed)
    integer, intent(in) :: m
    integer, intent(in) :: k
    integer, intent(in) :: lda
    real(rk), intent(in) :: a(lda*(m - 1) + k)
    real(rk), intent(out) :: packed(lanes, k, (m + lanes - 1)/lanes)

    integer :: i, strip, t

    do strip = 1, (m + lanes - 1)/lanes
      do i = 1, min(lanes, m - lanes*(strip - 1))
        do t = 1, k
          packed(i, t, strip) = a(lda*(lanes*(strip - 1) + i - 1) + t)
        end do
      end do
      do t = 1, k
        packed(m - lanes*(strip - 1) + 1:, t, strip) = 0.0_rk
      end do
    end do
  end subroutine pack_transposed

  !> Up to eight columns of the general product, for A packed in strips.
  pure subroutine add_strips(m, n, k, packed, b, ldb, c, ldc)
    integer, intent(in) :: m
    integer, intent(in) :: n
    integer, intent(in) :: k
    integer, intent(in) :: ldb
    integer, intent(in) :: ldc
    real(rk), intent(in) :: packed(lanes*k, (m + lanes - 1)/lanes)
    real(rk), intent(in) :: b(ldb*(n - 1) + k)
    real(rk), intent(inout) :: c(ldc*(n - 1) + m)

    real(rk) :: tile(lanes*8)
    integer :: i, i0, j, strip

    do strip = 1, m/lanes
      i0 = lanes*(strip - 1)
      j = 0
      if (n == 8) then
        call add_eight(k, packed(:, strip), b, ldb, c(i0 + 1), ldc)
        cycle
      else if (n >= 4) then
        call add_four(k, packed(:, strip), b, ldb, c(i0 + 1), ldc)
        j = 4
      end if
      do j = j, n - 1
        call add_column(lanes, k, packed(:, strip), lanes, b(ldb*j + 1), 1, c(ldc*j + i0 + 1))
      end do
    end do
    strip = m/lanes + 1
    i0 = lanes*(strip - 1)
    if (i0 == m) return
    tile = 0.0_rk
    j = 0
    if (n == 8) then
      call add_eight(k, packed(:, strip), b, ldb, tile, lanes)
      j = 8
    else if (n >= 4) then
      call add_four(k, packed(:, strip), b, ldb, tile, lanes)
      j = 4
    end if
    do j = j, n - 1
      call add_column(lanes, k, packed(:, strip), lanes, b(ldb*j + 1), 1, tile(lanes*j + 1))
    end do
    do j = 0, n - 1
      do i = 1, m - i0
        c(ldc*j + i0 + i) = c(ldc*j + i0 + i) + tile(lanes*j + i)
      end do
    end do
  end subroutine add_strips

  !> The same, for B of which the eight values for each term lie together, some perhaps zero.
  pure subroutine add_strips_of_panel(m, n, k, packed, panel, c, ldc)
    integer, intent(in) :: m
    !> Columns wanted
    integer, intent(in) :: n
    integer, intent(in) :: k
    integer, intent(in) :: ldc
    real(rk), intent(in) :: packed(lanes*k, (m + lanes - 1)/lanes)
    real(rk), intent(in) :: panel(8*k)
    real(rk), intent(inout) :: c(ldc*(n - 1) + m)

    real(rk) :: tile(lanes*8)
    integer :: i, i0, j, strip

    do strip = 1, (m + lanes - 1)/lanes
      i0 = lanes*(strip - 1)
      if (n == 8 .and. m - i0 >= lanes) then
        call add_eight_of_panel(k, packed(:, strip), panel, c(i0 + 1), ldc)
        cycle
      end if
      tile = 0.0_rk
      call add_eight_of_panel(k, packed(:, strip), panel, tile, lanes)
      do j = 0, n - 1
        do i = 1, min(lanes, m - i0)
          c(ldc*j + i0 + i) = c(ldc*j + i0 + i) + tile(lanes*j + i)
        end do
      end do
    end do
  end subroutine add_strips_of_panel

  !> Eight rows and eight columns of the general product.
  pure subroutine add_eight(k, a, b, ldb, c, ldc)
    integer, intent(in) :: k
    integer, intent(in) :: ldb
    integer, intent(in) :: ldc
    real(rk), intent(in) :: a(lanes, k)
    real(rk), intent(in) :: b(ldb*7 + k)
    real(rk), intent(inout) :: c(ldc*7 + lanes)

    integer :: i, t
    real(rk) :: w, s1, s2, s3, s4, s5, s6, s7, s8

    if (k < 1) return
    !$omp simd private(w, s1, s2, s3, s4, s5, s6, s7, s8)
    do i = 1, lanes
      s1 = 0.0_rk
      s2 = 0.0_rk
      s3 = 0.0_rk
      s4 = 0.0_rk
      s5 = 0.0_rk
      s6 = 0.0_rk
      s7 = 0.0_rk
      s8 = 0.0_rk
      do t = 1, k
        w = a(i, t)
        s1 = s1 + w*b(t)
        s2 = s2 + w*b(t + ldb)
        s3 = s3 + w*b(t + 2*ldb)
        s4 = s4 + w*b(t + 3*ldb)
        s5 = s5 + w*b(t + 4*ldb)
        s6 = s6 + w*b(t + 5*ldb)
        s7 = s7 + w*b(t + 6*ldb)
        s8 = s8 + w*b(t + 7*ldb)
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

  !> Eight rows and four columns of the general product.
  pure subroutine add_four(k, a, b, ldb, c, ldc)
    integer, intent(in) :: k
    integer, intent(in) :: ldb
    integer, intent(in) :: ldc
    real(rk), intent(in) :: a(lanes, k)
    real(rk), intent(in) :: b(ldb*3 + k)
    real(rk), intent(inout) :: c(ldc*3 + lanes)

    integer :: i, t
    real(rk) :: w, s1, s2, s3, s4

    if (k < 1) return
    !$omp simd private(w, s1, s2, s3, s4)
    do i = 1, lanes
      s1 = 0.0_rk
      s2 = 0.0_rk
      s3 = 0.0_rk
      s4 = 0.0_rk
      do t = 1, k
        w = a(i, t)
        s1 = s1 + w*b(t)
        s2 = s2 + w*b(t + ldb)
        s3 = s3 + w*b(t + 2*ldb)
        s4 = s4 + w*b(t + 3*ldb)
      end do
      c(i) = c(i) + s1
      c(i + ldc) = c(i + ldc) + s2
      c(i + 2*ldc) = c(i + 2*ldc) + s3
      c(i + 3*ldc) = c(i + 3*ldc) + s4
    end do
  end subroutine add_four

  !> Eight rows and eight columns of the general product, for a panel of B.
  pure subroutine add_eight_of_panel(k, a, panel, c, ldc)
    integer, intent(in) :: k
    integer, intent(in) :: ldc
    real(rk), intent(in) :: a(lanes, k)
    real(rk), intent(in) :: panel(8, k)
    real(rk), intent(inout) :: c(ldc*7 + lanes)

    integer :: i, t
    real(rk) :: w, s1, s2, s3, s4, s5, s6, s7, s8

    if (k < 1) return
    !$omp simd private(w, s1, s2, s3, s4, s5, s6, s7, s8)
    do i = 1, lanes
      s1 = 0.0_rk
      s2 = 0.0_rk
      s3 = 0.0_rk
      s4 = 0.0_rk
      s5 = 0.0_rk
      s6 = 0.0_rk
      s7 = 0.0_rk
      s8 = 0.0_rk
      do t = 1, k
        w = a(i, t)
        s1 = s1 + w*panel(1, t)
        s2 = s2 + w*panel(2, t)
        s3 = s3 + w*panel(3, t)
        s4 = s4 + w*panel(4, t)
        s5 = s5 + w*panel(5, t)
        s6 = s6 + w*panel(6, t)
        s7 = s7 + w*panel(7, t)
        s8 = s8 + w*panel(8, t)
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
  end subroutine add_eight_of_panel

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

  !> Dot products of the columns of A with one vector: `c(j) += sum_i A(i, j) b(i)`. Each lane sums
  !> every eighth term; the lanes are added at the end.
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

    real(rk) :: tile(lanes, 8)
    integer :: i, j, q, n_terms, columns
    real(rk) :: s

    n_terms = m/lanes
    j = 0
    do while (n_terms > 0 .and. n - j >= 4)
      columns = merge(8, 4, n - j >= 8)
      if (columns == 8) then
        call sum_eight(n_terms, a(lda*j + 1), lda, b, tile)
      else
        call sum_four(n_terms, a(lda*j + 1), lda, b, tile)
      end if
      do q = 1, columns
        c(stride_c*(j + q - 1) + 1) = c(stride_c*(j + q - 1) + 1) &
          & + (((tile(1, q) + tile(2, q)) + (tile(3, q) + tile(4, q))) &
          & + ((tile(5, q) + tile(6, q)) + (tile(7, q) + tile(8, q))))
      end do
      if (lanes*n_terms < m) then
        do q = j, j + columns - 1
          s = 0.0_rk
          do i = lanes*n_terms + 1, m
            s = s + a(lda*q + i)*b(i)
          end do
          c(stride_c*q + 1) = c(stride_c*q + 1) + s
        end do
      end if
      j = j + columns
    end do
    do j = j, n - 1
      s = 0.0_rk
      !$omp simd reduction(+:s)
      do i = 1, m
        s = s + a(lda*j + i)*b(i)
      end do
      c(stride_c*j + 1) = c(stride_c*j + 1) + s
    end do
  end subroutine add_dot_products

  !> The lanes' sums of eight dot products.
  pure subroutine sum_eight(n_terms, a, lda, b, tile)
    !> Vectors in each sum
    integer, intent(in) :: n_terms
    integer, intent(in) :: lda
    real(rk), intent(in) :: a(lda*7 + lanes*n_terms)
    real(rk), intent(in) :: b(lanes, n_terms)
    real(rk), intent(out) :: tile(lanes, 8)

    integer :: i, t
    real(rk) :: w, s1, s2, s3, s4, s5, s6, s7, s8

    if (n_terms < 1) return
    !$omp simd private(w, s1, s2, s3, s4, s5, s6, s7, s8)
    do i = 1, lanes
      s1 = 0.0_rk
      s2 = 0.0_rk
      s3 = 0.0_rk
      s4 = 0.0_rk
      s5 = 0.0_rk
      s6 = 0.0_rk
      s7 = 0.0_rk
      s8 = 0.0_rk
      do t = 1, n_terms
        w = b(i, t)
        s1 = s1 + w*a(lanes*(t - 1) + i)
        s2 = s2 + w*a(lanes*(t - 1) + i + lda)
        s3 = s3 + w*a(lanes*(t - 1) + i + 2*lda)
        s4 = s4 + w*a(lanes*(t - 1) + i + 3*lda)
        s5 = s5 + w*a(lanes*(t - 1) + i + 4*lda)
        s6 = s6 + w*a(lanes*(t - 1) + i + 5*lda)
        s7 = s7 + w*a(lanes*(t - 1) + i + 6*lda)
        s8 = s8 + w*a(lanes*(t - 1) + i + 7*lda)
      end do
      tile(i, 1) = s1
      tile(i, 2) = s2
      tile(i, 3) = s3
      tile(i, 4) = s4
      tile(i, 5) = s5
      tile(i, 6) = s6
      tile(i, 7) = s7
      tile(i, 8) = s8
    end do
  end subroutine sum_eight

  !> The lanes' sums of four dot products.
  pure subroutine sum_four(n_terms, a, lda, b, tile)
    !> Vectors in each sum
    integer, intent(in) :: n_terms
    integer, intent(in) :: lda
    real(rk), intent(in) :: a(lda*3 + lanes*n_terms)
    real(rk), intent(in) :: b(lanes, n_terms)
    real(rk), intent(out) :: tile(lanes, 4)

    integer :: i, t
    real(rk) :: w, s1, s2, s3, s4

    if (n_terms < 1) return
    !$omp simd private(w, s1, s2, s3, s4)
    do i = 1, lanes
      s1 = 0.0_rk
      s2 = 0.0_rk
      s3 = 0.0_rk
      s4 = 0.0_rk
      do t = 1, n_terms
        w = b(i, t)
        s1 = s1 + w*a(lanes*(t - 1) + i)
        s2 = s2 + w*a(lanes*(t - 1) + i + lda)
        s3 = s3 + w*a(lanes*(t - 1) + i + 2*lda)
        s4 = s4 + w*a(lanes*(t - 1) + i + 3*lda)
      end do
      tile(i, 1) = s1
      tile(i, 2) = s2
      tile(i, 3) = s3
      tile(i, 4) = s4
    end do
  end subroutine sum_four

end module pybridge_matrix_product
