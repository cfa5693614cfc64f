! SPDX-License-Identifier: MIT
!> Activation functions, each as one loop that applies it in place and records its derivative.
!>
!> The exponential, exp(x) - 1 and the hyperbolic tangent are our own, without branches, so that
!> the loops are vectorised by any compiler without -ffast-math and without a vector library:
!> argument reduction by a magic number (x = k ln 2 + r), a polynomial in r, and 2**k built from
!> its bits. They are accurate to about 2 units in the last place, have the right limits, keep
!> NaN, and none but `exponential` itself can overflow. Their loops are written out, because no
!> compiler can be relied on to inline a function of that size.
!>
!> Names, constants and conventions at kinks are those of Keras 3 on TensorFlow.
module pybridge_activation
  use pybridge_kinds, only: i8, rk
  implicit none
  private
  public :: activation_function, find_activation, exp_values, tanh_values

  integer, parameter :: linear_id = 0
  integer, parameter :: relu_id = 1
  integer, parameter :: leaky_relu_id = 2
  integer, parameter :: elu_id = 3
  integer, parameter :: selu_id = 4
  integer, parameter :: celu_id = 5
  integer, parameter :: sigmoid_id = 6
  integer, parameter :: hard_sigmoid_id = 7
  integer, parameter :: tanh_id = 8
  integer, parameter :: softplus_id = 9
  integer, parameter :: softsign_id = 10
  integer, parameter :: silu_id = 11
  integer, parameter :: hard_silu_id = 12
  integer, parameter :: exponential_id = 13
  integer, parameter :: gelu_id = 14
  integer, parameter :: gelu_tanh_id = 15
  integer, parameter :: mish_id = 16
  integer, parameter :: relu6_id = 17
  integer, parameter :: log_sigmoid_id = 18
  integer, parameter :: tanh_shrink_id = 19
  integer, parameter :: soft_shrink_id = 20
  integer, parameter :: hard_shrink_id = 21
  integer, parameter :: hard_tanh_id = 22
  integer, parameter :: squareplus_id = 23
  integer, parameter :: general_relu_id = 24
  integer, parameter :: threshold_id = 25

  real(rk), parameter :: root_half = 0.70710678118654752_rk
  real(rk), parameter :: gelu_cubic = 0.044715_rk

  !> An elementwise activation.
  type :: activation_function
    !> Which one: internal number
    integer :: id = linear_id
    !> Its constants (slope, alpha, limits), in the order of `find_activation`'s table
    real(rk) :: constants(3) = 0.0_rk
  contains
    procedure :: is_linear
    procedure :: apply
  end type activation_function

  !> A name, its number, how many constants it takes, and their defaults
  type :: activation_entry
    character(len=16) :: name
    integer :: id
    integer :: n_constants
    real(rk) :: constants(3)
  end type activation_entry

  type(activation_entry), parameter :: table(*) = [ &
    & activation_entry("linear", linear_id, 0, [0.0_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("relu", relu_id, 0, [0.0_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("leaky_relu", leaky_relu_id, 1, [0.2_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("elu", elu_id, 1, [1.0_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("selu", selu_id, 0, [0.0_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("celu", celu_id, 1, [1.0_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("sigmoid", sigmoid_id, 0, [0.0_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("hard_sigmoid", hard_sigmoid_id, 0, [0.0_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("tanh", tanh_id, 0, [0.0_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("softplus", softplus_id, 0, [0.0_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("softsign", softsign_id, 0, [0.0_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("silu", silu_id, 0, [0.0_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("swish", silu_id, 0, [0.0_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("hard_silu", hard_silu_id, 0, [0.0_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("hard_swish", hard_silu_id, 0, [0.0_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("exponential", exponential_id, 0, [0.0_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("gelu", gelu_id, 1, [root_half, 0.0_rk, 0.0_rk]), &
    & activation_entry("gelu_tanh", gelu_tanh_id, 1, [gelu_cubic, 0.0_rk, 0.0_rk]), &
    & activation_entry("mish", mish_id, 0, [0.0_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("relu6", relu6_id, 0, [0.0_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("log_sigmoid", log_sigmoid_id, 0, [0.0_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("tanh_shrink", tanh_shrink_id, 0, [0.0_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("soft_shrink", soft_shrink_id, 1, [0.5_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("hard_shrink", hard_shrink_id, 1, [0.5_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("hard_tanh", hard_tanh_id, 0, [0.0_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("squareplus", squareplus_id, 1, [4.0_rk, 0.0_rk, 0.0_rk]), &
    & activation_entry("general_relu", general_relu_id, 3, [huge(1.0_rk), 0.0_rk, 0.0_rk]), &
    & activation_entry("threshold", threshold_id, 2, [0.0_rk, 0.0_rk, 0.0_rk])]

  ! exp: x = k ln 2 + r, |r| <= ln(2)/2; exp(r) = 1 + r + r**2 q(r), where q interpolates at the
  ! Chebyshev nodes to 0.01 units in the last place. The high part of ln 2 has 32 bits, so that
  ! its product with k is exact.
  real(rk), parameter :: log2_e = 1.4426950408889634_rk
  real(rk), parameter :: ln2_high = 0.6931471803691238_rk
  real(rk), parameter :: ln2_low = 1.9082149292705877e-10_rk
  real(rk), parameter :: q0 = 0.5_rk
  real(rk), parameter :: q1 = 0.1666666666666667_rk
  real(rk), parameter :: q2 = 0.04166666666666667_rk
  real(rk), parameter :: q3 = 0.008333333333326112_rk
  real(rk), parameter :: q4 = 0.001388888888888373_rk
  real(rk), parameter :: q5 = 0.0001984126987490126_rk
  real(rk), parameter :: q6 = 2.4801587325605324e-05_rk
  real(rk), parameter :: q7 = 2.7557255297969643e-06_rk
  real(rk), parameter :: q8 = 2.755727357010214e-07_rk
  real(rk), parameter :: q9 = 2.5105259538448494e-08_rk
  real(rk), parameter :: q10 = 2.0914717341716378e-09_rk
  !> 1.5 * 2**52: added to a small number, it leaves the rounded integer in the low bits
  real(rk), parameter :: magic = 6755399441055744.0_rk
  !> The same, plus the bias of the exponent
  real(rk), parameter :: magic_biased = magic + 1023.0_rk
  !> Beyond these, exp is infinite, or zero
  real(rk), parameter :: exp_highest = 710.0_rk
  real(rk), parameter :: exp_lowest = -746.0_rk

  !> Below this, exp(x) - 1 is -1
  real(rk), parameter :: expm1_lowest = -45.0_rk

  !> Values handled at a time, so that intermediate results stay in the first cache
  integer, parameter :: block = 256

  real(rk), parameter :: selu_alpha = 1.6732632423543772_rk
  real(rk), parameter :: selu_scale = 1.0507009873554805_rk
  real(rk), parameter :: inverse_root_pi = 0.56418958354775629_rk
  real(rk), parameter :: gelu_root = 0.79788456080286536_rk

contains

  !> Find an activation by its name. `found` is false for an unknown name, or a wrong number of
  !> constants.
  pure subroutine find_activation(name, constants, activation, found)
    !> Name, in lower case as in Keras
    character(len=*), intent(in) :: name
    !> Its constants, in the order of the table; an empty array means the defaults
    real(rk), intent(in) :: constants(:)
    type(activation_function), intent(out) :: activation
    logical, intent(out) :: found

    integer :: i

    found = .false.
    do i = 1, size(table)
      if (trim(table(i)%name) /= name) cycle
      if (size(constants) /= 0 .and. size(constants) /= table(i)%n_constants) return
      activation%id = table(i)%id
      activation%constants = table(i)%constants
      activation%constants(1:size(constants)) = constants
      found = .true.
      return
    end do
  end subroutine find_activation

  !> Whether the activation is the identity, which needs no record.
  pure function is_linear(self) result(answer)
    class(activation_function), intent(in) :: self
    logical :: answer

    answer = self%id == linear_id
  end function is_linear

  !> The exponential: `e <- exp(x)`.
  pure subroutine exp_values(n, x, e)
    integer, intent(in) :: n
    real(rk), intent(in) :: x(n)
    real(rk), intent(out) :: e(n)

    integer :: i
    real(rk) :: z, k, half, r, r2, r4, q

    ! The limits in a loop of their own: in one loop, compilers turn them into branches
    do i = 1, n
      z = merge(exp_highest, x(i), x(i) > exp_highest)
      e(i) = merge(exp_lowest, z, z < exp_lowest)
    end do
    !$omp simd private(z, k, half, r, r2, r4, q)
    do i = 1, n
      z = e(i)
      k = (z*log2_e + magic) - magic
      ! 2**k in two factors, for the largest results and the subnormal ones
      half = (k*0.5_rk + magic) - magic
      r = (z - k*ln2_high) - k*ln2_low
      r2 = r*r
      r4 = r2*r2
      q = ((q0 + q1*r) + r2*(q2 + q3*r)) &
        & + r4*(((q4 + q5*r) + r2*(q6 + q7*r)) + r4*((q8 + q9*r) + r2*q10))
      e(i) = ((1.0_rk + (r + r2*q)) &
        & *transfer(shiftl(transfer(half + magic_biased, 0_i8), 52), 0.0_rk)) &
        & *transfer(shiftl(transfer((k - half) + magic_biased, 0_i8), 52), 0.0_rk)
    end do
  end subroutine exp_values

  !> `e <- exp(x) - 1`, accurate near zero, for x <= 0 only.
  pure subroutine expm1_values(n, x, e)
    integer, intent(in) :: n
    real(rk), intent(in) :: x(n)
    real(rk), intent(out) :: e(n)

    integer :: i
    real(rk) :: z, k, r, r2, r4, q, scale

    do i = 1, n
      e(i) = merge(expm1_lowest, x(i), x(i) < expm1_lowest)
    end do
    !$omp simd private(z, k, r, r2, r4, q, scale)
    do i = 1, n
      z = e(i)
      k = (z*log2_e + magic) - magic
      r = (z - k*ln2_high) - k*ln2_low
      r2 = r*r
      r4 = r2*r2
      q = ((q0 + q1*r) + r2*(q2 + q3*r)) &
        & + r4*(((q4 + q5*r) + r2*(q6 + q7*r)) + r4*((q8 + q9*r) + r2*q10))
      scale = transfer(shiftl(transfer(k + magic_biased, 0_i8), 52), 0.0_rk)
      e(i) = scale*(r + r2*q) + (scale - 1.0_rk)
    end do
  end subroutine expm1_values

  !> The hyperbolic tangent, in place: `t <- tanh(t)`, and its derivative `d`.
  pure subroutine tanh_values(n, t, d)
    integer, intent(in) :: n
    real(rk), intent(inout) :: t(n)
    real(rk), intent(out) :: d(n)

    integer :: i
    real(rk) :: z, k, r, r2, r4, q, scale, e, y

    ! tanh |x| = -e/(2 + e) with e = exp(-2|x|) - 1
    do i = 1, n
      z = -2.0_rk*abs(t(i))
      d(i) = merge(expm1_lowest, z, z < expm1_lowest)
    end do
    !$omp simd private(z, k, r, r2, r4, q, scale, e, y)
    do i = 1, n
      z = d(i)
      k = (z*log2_e + magic) - magic
      r = (z - k*ln2_high) - k*ln2_low
      r2 = r*r
      r4 = r2*r2
      q = ((q0 + q1*r) + r2*(q2 + q3*r)) &
        & + r4*(((q4 + q5*r) + r2*(q6 + q7*r)) + r4*((q8 + q9*r) + r2*q10))
      scale = transfer(shiftl(transfer(k + magic_biased, 0_i8), 52), 0.0_rk)
      e = scale*(r + r2*q) + (scale - 1.0_rk)
      y = sign(e/(2.0_rk + e), t(i))
      t(i) = y
      d(i) = 1.0_rk - y*y
    end do
  end subroutine tanh_values

  !> log(1 + u) for 0 <= u <= 1.
  elemental function log1p(u) result(l)
    real(rk), intent(in) :: u
    real(rk) :: l

    l = 2.0_rk*atanh(u/(2.0_rk + u))
  end function log1p

  !> Apply the activation in place, and record its derivative at each point.
  pure subroutine apply(self, n, z, d)
    class(activation_function), intent(in) :: self
    !> Number of values
    integer(i8), intent(in) :: n
    !> Argument on entry, result on return
    real(rk), intent(inout) :: z(n)
    !> Derivative of the result with respect to the argument
    real(rk), intent(out) :: d(n)

    integer(i8) :: i

    do i = 0, n - 1, block
      call apply_to_block(self, int(min(int(block, i8), n - i)), z(i + 1), d(i + 1))
    end do
  end subroutine apply

  !> `apply` for at most `block` values.
  pure subroutine apply_to_block(self, n, z, d)
    type(activation_function), intent(in) :: self
    integer, intent(in) :: n
    real(rk), intent(inout) :: z(n)
    real(rk), intent(out) :: d(n)

    integer :: i
    real(rk) :: x, s, u, c1, c2, c3
    real(rk) :: e(block), v(block)

    c1 = self%constants(1)
    c2 = self%constants(2)
    c3 = self%constants(3)
    select case (self%id)
    case (tanh_id)
      call tanh_values(n, z, d)
    case (relu_id)
      do i = 1, n
        x = z(i)
        d(i) = merge(1.0_rk, 0.0_rk, x > 0.0_rk)
        z(i) = merge(0.0_rk, x, x <= 0.0_rk)
      end do
    case (leaky_relu_id)
      do i = 1, n
        x = z(i)
        d(i) = merge(1.0_rk, c1, x > 0.0_rk)
        z(i) = d(i)*x
      end do
    case (elu_id)
      do i = 1, n
        v(i) = merge(0.0_rk, z(i), z(i) > 0.0_rk)
      end do
      call expm1_values(n, v, e)
      do i = 1, n
        x = z(i)
        d(i) = merge(c1*e(i) + c1, 1.0_rk, x < 0.0_rk)
        z(i) = merge(x, c1*e(i), x > 0.0_rk)
      end do
    case (selu_id)
      do i = 1, n
        v(i) = merge(0.0_rk, z(i), z(i) > 0.0_rk)
      end do
      call expm1_values(n, v, e)
      do i = 1, n
        x = z(i)
        d(i) = selu_scale*merge(selu_alpha*(e(i) + 1.0_rk), 1.0_rk, x < 0.0_rk)
        z(i) = selu_scale*merge(x, selu_alpha*e(i), x > 0.0_rk)
      end do
    case (celu_id)
      do i = 1, n
        v(i) = merge(0.0_rk, z(i), z(i) > 0.0_rk)/c1
      end do
      call expm1_values(n, v, e)
      do i = 1, n
        x = z(i)
        d(i) = merge(e(i) + 1.0_rk, 1.0_rk, x < 0.0_rk)
        z(i) = merge(x, c1*e(i), x > 0.0_rk)
      end do
    case (sigmoid_id)
      do i = 1, n
        v(i) = -abs(z(i))
      end do
      call exp_values(n, v, e)
      do i = 1, n
        x = z(i)
        s = 1.0_rk/(1.0_rk + e(i))
        d(i) = e(i)*s*s
        z(i) = merge(s, e(i)*s, x >= 0.0_rk)
      end do
    case (hard_sigmoid_id)
      do i = 1, n
        x = z(i) + 3.0_rk
        d(i) = merge(1.0_rk/6.0_rk, 0.0_rk, x > 0.0_rk .and. x < 6.0_rk)
        x = merge(0.0_rk, x, x <= 0.0_rk)
        z(i) = merge(6.0_rk, x, x >= 6.0_rk)/6.0_rk
      end do
    case (softplus_id)
      do i = 1, n
        v(i) = -abs(z(i))
      end do
      call exp_values(n, v, e)
      do i = 1, n
        x = z(i)
        d(i) = merge(1.0_rk, e(i), x >= 0.0_rk)/(1.0_rk + e(i))
        z(i) = merge(0.0_rk, x, x < 0.0_rk) + log1p(e(i))
      end do
    case (log_sigmoid_id)
      do i = 1, n
        v(i) = -abs(z(i))
      end do
      call exp_values(n, v, e)
      do i = 1, n
        x = z(i)
        d(i) = merge(e(i), 1.0_rk, x >= 0.0_rk)/(1.0_rk + e(i))
        z(i) = merge(0.0_rk, x, x > 0.0_rk) - log1p(e(i))
      end do
    case (softsign_id)
      do i = 1, n
        x = z(i)
        u = 1.0_rk + abs(x)
        d(i) = 1.0_rk/(u*u)
        z(i) = x/u
      end do
    case (silu_id)
      do i = 1, n
        v(i) = -abs(z(i))
      end do
      call exp_values(n, v, e)
      do i = 1, n
        x = z(i)
        s = merge(1.0_rk, e(i), x >= 0.0_rk)/(1.0_rk + e(i))
        d(i) = s*(1.0_rk + x*(1.0_rk - s))
        z(i) = x*s
      end do
    case (hard_silu_id)
      do i = 1, n
        x = z(i)
        u = merge(0.0_rk, x + 3.0_rk, x <= -3.0_rk)
        u = merge(6.0_rk, u, x >= 3.0_rk)/6.0_rk
        d(i) = u + merge(x/6.0_rk, 0.0_rk, x > -3.0_rk .and. x < 3.0_rk)
        z(i) = x*u
      end do
    case (exponential_id)
      do i = 1, n
        v(i) = z(i)
      end do
      call exp_values(n, v, e)
      do i = 1, n
        d(i) = e(i)
        z(i) = e(i)
      end do
    case (gelu_id)
      do i = 1, n
        v(i) = -(z(i)*c1)*(z(i)*c1)
      end do
      call exp_values(n, v, e)
      do i = 1, n
        x = z(i)
        s = 0.5_rk*erfc(-x*c1)
        d(i) = s + x*c1*inverse_root_pi*e(i)
        z(i) = x*s
      end do
    case (gelu_tanh_id)
      do i = 1, n
        v(i) = gelu_root*(z(i) + c1*z(i)*z(i)*z(i))
      end do
      call tanh_values(n, v, e)
      do i = 1, n
        x = z(i)
        d(i) = 0.5_rk*(1.0_rk + v(i)) &
          & + 0.5_rk*x*e(i)*gelu_root*(1.0_rk + 3.0_rk*c1*x*x)
        z(i) = 0.5_rk*x*(1.0_rk + v(i))
      end do
    case (mish_id)
      do i = 1, n
        v(i) = -abs(z(i))
      end do
      call exp_values(n, v, e)
      do i = 1, n
        x = z(i)
        d(i) = merge(1.0_rk, e(i), x >= 0.0_rk)/(1.0_rk + e(i))
        v(i) = merge(0.0_rk, x, x < 0.0_rk) + log1p(e(i))
      end do
      call tanh_values(n, v, e)
      do i = 1, n
        d(i) = v(i) + z(i)*e(i)*d(i)
        z(i) = z(i)*v(i)
      end do
    case (relu6_id)
      do i = 1, n
        x = z(i)
        d(i) = merge(1.0_rk, 0.0_rk, x > 0.0_rk .and. x < 6.0_rk)
        x = merge(0.0_rk, x, x <= 0.0_rk)
        z(i) = merge(6.0_rk, x, x >= 6.0_rk)
      end do
    case (tanh_shrink_id)
      do i = 1, n
        v(i) = z(i)
      end do
      call tanh_values(n, v, e)
      do i = 1, n
        d(i) = v(i)*v(i)
        z(i) = z(i) - v(i)
      end do
    case (soft_shrink_id)
      do i = 1, n
        x = z(i)
        d(i) = merge(1.0_rk, 0.0_rk, abs(x) > c1)
        z(i) = merge(x - sign(c1, x), 0.0_rk*x, abs(x) > c1)
      end do
    case (hard_shrink_id)
      do i = 1, n
        x = z(i)
        d(i) = merge(1.0_rk, 0.0_rk, abs(x) > c1)
        z(i) = merge(x, 0.0_rk*x, abs(x) > c1)
      end do
    case (hard_tanh_id)
      do i = 1, n
        x = z(i)
        d(i) = merge(1.0_rk, 0.0_rk, abs(x) <= 1.0_rk)
        x = merge(-1.0_rk, x, x < -1.0_rk)
        z(i) = merge(1.0_rk, x, x > 1.0_rk)
      end do
    case (squareplus_id)
      do i = 1, n
        x = z(i)
        u = sqrt(x*x + c1)
        d(i) = 0.5_rk + 0.5_rk*x/u
        z(i) = 0.5_rk*(x + u)
      end do
    case (general_relu_id)
      ! Constants: largest value, slope below the threshold, threshold
      do i = 1, n
        x = z(i)
        d(i) = merge(merge(0.0_rk, 1.0_rk, x >= c1), c2, x > c3)
        z(i) = merge(merge(c1, x, x >= c1), c2*(x - c3), x > c3)
      end do
    case (threshold_id)
      ! Constants: threshold, value at and below it
      do i = 1, n
        x = z(i)
        d(i) = merge(1.0_rk, 0.0_rk, x > c1)
        z(i) = merge(c2, x, x <= c1)
      end do
    case default
      do i = 1, n
        d(i) = 1.0_rk
      end do
    end select
  end subroutine apply_to_block

end module pybridge_activation
