! SPDX-License-Identifier: MIT
!> Writes network files in memory, as Python does, for the tests of the reader.
module network_files_for_tests
  use pybridge_byte_reader, only: crc32
  use pybridge_kinds, only: i1, i4, i8, rk
  implicit none
  private
  public :: all_layers, n_parameters, sealed

  integer, parameter :: header_size = 28
  !> Two convolutions with bias and without, three dense layers
  integer, parameter :: n_parameters = (27 + 3) + 30 + (6 + 2) + (44 + 4) + (16 + 4)

  type :: byte_writer
    integer(i1), allocatable :: bytes(:)
  contains
    procedure :: put_integers
    procedure :: put_text
    procedure :: put_reals
    procedure :: put_layer
    procedure :: put_weight
    procedure :: put_node
  end type byte_writer

contains

  subroutine put_integers(self, values)
    class(byte_writer), intent(inout) :: self
    integer, intent(in) :: values(:)

    self%bytes = [self%bytes, transfer(int(values, i4), self%bytes)]
  end subroutine put_integers

  subroutine put_text(self, text)
    class(byte_writer), intent(inout) :: self
    character(len=*), intent(in) :: text

    call self%put_integers([len(text)])
    self%bytes = [self%bytes, transfer(text, self%bytes)]
  end subroutine put_text

  subroutine put_reals(self, values)
    class(byte_writer), intent(inout) :: self
    real(rk), intent(in) :: values(:)

    self%bytes = [self%bytes, transfer(values, self%bytes)]
  end subroutine put_reals

  !> A layer without its weights, whose number comes last.
  subroutine put_layer(self, kind, integers, texts, constants, n_constants, n_weights)
    class(byte_writer), intent(inout) :: self
    character(len=*), intent(in) :: kind
    integer, intent(in) :: integers(:)
    character(len=*), intent(in) :: texts(:)
    !> Lists of equal length, one after the other
    real(rk), intent(in) :: constants(:)
    integer, intent(in) :: n_constants
    integer, intent(in) :: n_weights

    integer :: i, n

    call self%put_text(kind)
    call self%put_text("my " // kind)
    call self%put_text("Class")
    call self%put_integers([size(integers), integers])
    call self%put_integers([size(texts)])
    do i = 1, size(texts)
      call self%put_text(trim(texts(i)))
    end do
    call self%put_integers([n_constants])
    n = size(constants)/max(n_constants, 1)
    do i = 1, n_constants
      call self%put_integers([n])
      call self%put_reals(constants((i - 1)*n + 1:i*n))
    end do
    call self%put_integers([n_weights])
  end subroutine put_layer

  subroutine put_weight(self, dims)
    class(byte_writer), intent(inout) :: self
    integer, intent(in) :: dims(:)

    real(rk), allocatable :: values(:)

    call self%put_text("w")
    call self%put_integers([size(dims), dims])
    allocate (values(product(dims)))
    call random_number(values)
    call self%put_reals(values - 0.5_rk)
  end subroutine put_weight

  subroutine put_node(self, layer, sources, shape)
    class(byte_writer), intent(inout) :: self
    integer, intent(in) :: layer
    integer, intent(in) :: sources(:)
    integer, intent(in) :: shape(:)

    integer :: i

    call self%put_integers([layer, size(sources), (sources(i), 1, i=1, size(sources)), 1, &
      & size(shape), shape])
  end subroutine put_node

  !> The body of a file whose network has a layer of every kind, one of them used twice, two inputs
  !> (4 steps of 3 channels, and 2 values) and two outputs.
  function all_layers() result(body)
    integer(i1), allocatable :: body(:)

    type(byte_writer) :: out
    character(len=8), parameter :: no_texts(0) = [character(len=8) ::]
    integer, parameter :: none(0) = [integer ::]
    real(rk), parameter :: no_reals(0) = [real(rk) ::]

    allocate (out%bytes(0))
    call out%put_integers([8])
    call out%put_text("{}")
    call out%put_integers([n_parameters, 13])
    call out%put_layer("affine", [1], no_texts, [0.3_rk, 2.0_rk], 2, 0)
    call out%put_layer("padding1d", [1, 2, 1], no_texts, no_reals, 0, 0)
    call out%put_layer("conv1d", [1, 1, 1], ["same    ", "tanh    "], no_reals, 1, 2)
    call out%put_weight([3, 3, 3])
    call out%put_weight([3])
    call out%put_layer("dense", none, ["silu    "], no_reals, 1, 2)
    call out%put_weight([3, 2])
    call out%put_weight([2])
    call out%put_layer("concatenate", [2], no_texts, no_reals, 0, 0)
    call out%put_layer("conv1d", [2, 1, 1], ["valid   ", "linear  "], no_reals, 1, 1)
    call out%put_weight([2, 5, 3])
    call out%put_layer("merge", none, ["multiply"], no_reals, 0, 0)
    call out%put_layer("activation", none, ["elu     "], [0.7_rk], 1, 0)
    call out%put_layer("identity", [9], no_texts, no_reals, 0, 0)
    call out%put_layer("concatenate", [1], no_texts, no_reals, 0, 0)
    call out%put_layer("dense", none, ["tanh    "], no_reals, 1, 2)
    call out%put_weight([11, 4])
    call out%put_weight([4])
    call out%put_layer("softmax", none, no_texts, no_reals, 0, 0)
    call out%put_layer("dense", none, ["softplus"], no_reals, 1, 2)
    call out%put_weight([4, 4])
    call out%put_weight([4])
    call out%put_integers([16])
    call out%put_integers([0])
    call out%put_text("a")
    call out%put_integers([2, 4, 3, 0])
    call out%put_text("b")
    call out%put_integers([1, 2])
    call out%put_node(1, [1], [4, 3])
    call out%put_node(2, [3], [7, 3])
    call out%put_node(3, [4], [7, 3])
    call out%put_node(4, [5], [7, 2])
    call out%put_node(5, [5, 6], [7, 5])
    call out%put_node(6, [7], [3, 3])
    call out%put_node(7, [8, 8], [3, 3])
    call out%put_node(8, [9], [3, 3])
    call out%put_node(9, [10], [9])
    call out%put_node(10, [11, 2], [11])
    call out%put_node(11, [12], [4])
    call out%put_node(12, [13], [4])
    call out%put_node(13, [14], [4])
    call out%put_node(13, [15], [4])
    call out%put_integers([2, 16, 1, 10, 1])
    call out%put_integers([0])
    body = out%bytes
  end function all_layers

  !> A file: header and body.
  function sealed(body) result(bytes)
    integer(i1), intent(in) :: body(:)
    integer(i1), allocatable :: bytes(:)

    type(byte_writer) :: out

    allocate (out%bytes, source=int([-119, 80, 66, 78, 13, 10, 26, 10], i1))
    call out%put_integers([1, 67305985])
    out%bytes = [out%bytes, transfer(size(body, kind=i8) + header_size, out%bytes)]
    call out%put_integers([int(crc32(body))])
    bytes = [out%bytes, body]
  end function sealed

end module network_files_for_tests

!> Networks: matrix products, activations, layers, the reader of files, and what it refuses.
!> A first argument of the command sets the number of mutated files.
program test_network
  use, intrinsic :: ieee_arithmetic, only: ieee_is_nan, ieee_quiet_nan, ieee_value
  use network_files_for_tests, only: all_layers, n_parameters, sealed
  use pybridge_activation, only: activation_function, find_activation
  use pybridge_kinds, only: i1, i8, rk
  use pybridge_matrix_product, only: add_outer_product, add_product, add_product_transposed
  use pybridge_network, only: network
  use pybridge_network_reader, only: network_from_bytes, network_from_file
  use pybridge_status, only: status_checksum, status_file_access, status_file_format, status_ok, &
    & status_unsupported
  implicit none

  integer :: n_failures

  n_failures = 0
  ! gfortran begins with other numbers in every run
  call random_init(repeatable=.true., image_distinct=.false.)
  call test_matrix_products()
  call test_activations()
  call test_derivatives()
  call test_batches()
  call test_refusals()
  call test_mutated_files()
  if (n_failures > 0) error stop "checks failed"
  print "(a)", "all checks passed"

contains

  subroutine check(holds, text)
    logical, intent(in) :: holds
    !> What should hold
    character(len=*), intent(in) :: text

    if (holds) return
    n_failures = n_failures + 1
    print "(2a)", "FAILED: ", text
  end subroutine check

  !> All three products equal plain loops, for sizes around those of the kernels, for leading
  !> dimensions larger than the rows, and for overlapping columns.
  subroutine test_matrix_products()
    integer, parameter :: sizes(*) = [1, 2, 3, 4, 7, 8, 9, 12, 16, 23, 36, 65, 131]
    integer :: im, in, ik, ld

    do im = 1, size(sizes)
      do in = 1, size(sizes)
        do ik = 1, size(sizes)
          do ld = 0, 2
            call compare_products(sizes(im), sizes(in), sizes(ik), ld)
          end do
        end do
      end do
    end do
  end subroutine test_matrix_products

  subroutine compare_products(m, n, k, layout)
    integer, intent(in) :: m, n, k
    !> Dense, with gaps, with overlapping columns of x
    integer, intent(in) :: layout

    real(rk), allocatable :: w(:), x(:), y(:), y_ad(:), x_ad(:), w_ad(:)
    real(rk), allocatable :: y_0(:), x_ad_0(:), w_ad_0(:)
    integer :: i, j, l, ldw, ldx, ldy
    real(rk), parameter :: tolerance = 1.0e-13_rk

    ldw = merge(m + 3, m, layout == 1)
    ldy = merge(m + 2, m, layout == 1)
    ldx = k
    if (layout == 1) ldx = k + 5
    if (layout == 2) ldx = max(1, k/3)
    allocate (w(ldw*(k - 1) + m), x(ldx*(n - 1) + k), y(ldy*(n - 1) + m))
    allocate (y_ad(size(y)), x_ad(size(x)), w_ad(size(w)))
    call random_number(w)
    call random_number(x)
    call random_number(y)
    call random_number(y_ad)
    call random_number(x_ad)
    call random_number(w_ad)
    y_0 = y
    x_ad_0 = x_ad
    w_ad_0 = w_ad
    do j = 0, n - 1
      do l = 0, k - 1
        do i = 1, m
          y_0(ldy*j + i) = y_0(ldy*j + i) + w(ldw*l + i)*x(ldx*j + l + 1)
          x_ad_0(ldx*j + l + 1) = x_ad_0(ldx*j + l + 1) + w(ldw*l + i)*y_ad(ldy*j + i)
          w_ad_0(ldw*l + i) = w_ad_0(ldw*l + i) + y_ad(ldy*j + i)*x(ldx*j + l + 1)
        end do
      end do
    end do
    call add_product(m, n, k, w, ldw, x, ldx, y, ldy)
    call add_product_transposed(m, n, k, w, ldw, y_ad, ldy, x_ad, ldx)
    call add_outer_product(m, n, k, y_ad, ldy, x, ldx, w_ad, ldw)
    call check(all(abs(y - y_0) <= tolerance*abs(y_0)), "a product is wrong")
    call check(all(abs(x_ad - x_ad_0) <= tolerance*abs(x_ad_0)), "a transposed product is wrong")
    call check(all(abs(w_ad - w_ad_0) <= tolerance*abs(w_ad_0)), "an outer product is wrong")
  end subroutine compare_products

  !> Every activation keeps NaN, and its derivative is that of its values.
  subroutine test_activations()
    character(len=12), parameter :: names(*) = [character(len=12) :: "linear", "relu", &
      & "leaky_relu", "elu", "selu", "celu", "sigmoid", "hard_sigmoid", "tanh", "softplus", &
      & "softsign", "silu", "swish", "hard_silu", "hard_swish", "exponential", "gelu", &
      & "gelu_tanh", "mish", "relu6", "log_sigmoid", "tanh_shrink", "soft_shrink", &
      & "hard_shrink", "hard_tanh", "squareplus", "general_relu", "threshold"]
    integer, parameter :: n = 331
    real(rk), parameter :: h = 1.0e-5_rk
    type(activation_function) :: activation
    real(rk) :: x(n), z(n), d(n), left(n), right(n), unused(n)
    logical :: found
    integer :: i

    call random_number(x)
    x = 9.0_rk*x - 4.5_rk
    do i = 1, size(names)
      call find_activation(trim(names(i)), [real(rk) ::], activation, found)
      call check(found, "activation " // trim(names(i)) // " is not known")
      if (.not. found) cycle
      z = x
      left = x - h
      right = x + h
      call activation%apply(int(n, i8), z, d)
      call activation%apply(int(n, i8), left, unused)
      call activation%apply(int(n, i8), right, unused)
      ! A few points lie within h of a kink
      call check(count(abs((right - left)/(2.0_rk*h) - d) > 1.0e-7_rk*(1.0_rk + abs(d))) <= 2, &
        & "the derivative of " // trim(names(i)) // " is wrong")
      z(1) = ieee_value(1.0_rk, ieee_quiet_nan)
      call activation%apply(1_i8, z(1:1), d(1:1))
      call check(ieee_is_nan(z(1)), trim(names(i)) // " loses NaN")
    end do
    call find_activation("antigravity", [real(rk) ::], activation, found)
    call check(.not. found, "an unknown activation is found")
    call find_activation("elu", [1.0_rk, 2.0_rk], activation, found)
    call check(.not. found, "elu takes two constants")
  end subroutine test_activations

  !> A network with every layer: adjoint against tangent linear, and that against differences.
  subroutine test_derivatives()
    type(network) :: net
    integer, parameter :: nb = 5
    integer :: status, i
    character(len=:), allocatable :: message
    real(rk), allocatable :: x(:, :), dx(:, :), x_ad(:, :), y(:, :), dy(:, :), y_ad(:, :)
    real(rk), allocatable :: y_h(:, :), dp(:), p_ad(:), linearisation(:), work(:), record(:)
    real(rk) :: h, left, right, remainder(6)

    call network_from_bytes(sealed(all_layers()), net, status, message)
    call check(status == status_ok, "a network with every layer is refused")
    if (status /= status_ok) then
      print "(a)", message
      return
    end if
    call check(net%n_inputs == 14 .and. net%n_outputs == 13, "the sizes are wrong")
    call check(net%n_parameters == n_parameters, "the number of parameters is wrong")
    allocate (x(net%n_inputs, nb), dx(net%n_inputs, nb), x_ad(net%n_inputs, nb), &
      & y(net%n_outputs, nb), dy(net%n_outputs, nb), y_ad(net%n_outputs, nb), &
      & y_h(net%n_outputs, nb), dp(net%n_parameters), p_ad(net%n_parameters), &
      & linearisation(net%linearisation_size(nb)), work(net%work_size(nb)))
    ! Nothing may be read that was not written
    linearisation = ieee_value(1.0_rk, ieee_quiet_nan)
    work = ieee_value(1.0_rk, ieee_quiet_nan)
    record = linearisation
    call random_number(x)
    call random_number(dx)
    call random_number(dp)
    call random_number(y_ad)
    call net%forward(nb, net%parameters, x, y, linearisation, work)
    work = ieee_value(1.0_rk, ieee_quiet_nan)
    call net%forward_tl(nb, net%parameters, linearisation, dx, dy, work, dp)
    work = ieee_value(1.0_rk, ieee_quiet_nan)
    x_ad = 0.0_rk
    p_ad = 0.0_rk
    call net%forward_ad(nb, net%parameters, linearisation, y_ad, x_ad, work, p_ad)
    left = sum(dy*y_ad)
    right = sum(dx*x_ad) + sum(dp*p_ad)
    call check(abs(left - right) <= 1.0e-13_rk*abs(left), "tangent linear and adjoint disagree")
    ! Twice accumulated
    call net%forward_ad(nb, net%parameters, linearisation, y_ad, x_ad, work, p_ad)
    right = (sum(dx*x_ad) + sum(dp*p_ad))/2.0_rk
    call check(abs(left - right) <= 1.0e-13_rk*abs(left), "the adjoint does not accumulate")
    ! Without parameters
    call net%forward_tl(nb, net%parameters, linearisation, dx, dy, work)
    x_ad = 0.0_rk
    call net%forward_ad(nb, net%parameters, linearisation, y_ad, x_ad, work)
    left = sum(dy*y_ad)
    call check(abs(left - sum(dx*x_ad)) <= 1.0e-13_rk*abs(left), "without parameters they disagree")
    call net%forward_tl(nb, net%parameters, linearisation, dx, dy, work, dp)
    do i = 1, 6
      h = 0.1_rk**i
      call net%forward(nb, net%parameters + h*dp, x + h*dx, y_h, record, work)
      remainder(i) = norm2(y_h - y - h*dy)
    end do
    ! A step of 0.1 is not small for all of them: a few kinks lie within it
    call check(all(abs(log10(remainder(2:5)/remainder(3:6)) - 2.0_rk) < 0.1_rk), &
      & "the Taylor remainder is not of second order")
  end subroutine test_derivatives

  !> A batch gives what its samples give one by one.
  subroutine test_batches()
    type(network) :: net
    integer, parameter :: nb = 19
    integer :: status, j
    character(len=:), allocatable :: message
    real(rk), allocatable :: x(:, :), y(:, :), y_1(:), linearisation(:), work(:)

    call network_from_bytes(sealed(all_layers()), net, status, message)
    allocate (x(net%n_inputs, nb), y(net%n_outputs, nb), y_1(net%n_outputs), &
      & linearisation(net%linearisation_size(nb)), work(net%work_size(nb)))
    call random_number(x)
    call net%forward(nb, net%parameters, x, y, linearisation, work)
    do j = 1, nb
      call net%forward(1, net%parameters, x(:, j), y_1, linearisation(:net%linearisation_size(1)), &
        & work(:net%work_size(1)))
      call check(maxval(abs(y(:, j) - y_1)) <= 1.0e-14_rk, "a batch differs from its samples")
    end do
    call check(.not. net%accepts_batch(0), "a batch of none is accepted")
    call check(.not. net%accepts_batch(huge(1)), "too large a batch is accepted")
  end subroutine test_batches

  subroutine test_refusals()
    integer(i1), allocatable :: body(:), bytes(:)
    type(network) :: net
    integer :: status, i
    character(len=:), allocatable :: message

    allocate (body, source=all_layers())
    bytes = sealed(body)
    bytes(size(bytes)) = ieor(bytes(size(bytes)), 1_i1)
    call network_from_bytes(bytes, net, status, message)
    call check(status == status_checksum, "a damaged file is accepted")
    do i = 0, size(body) - 1
      call network_from_bytes(sealed(body(:i)), net, status, message)
      call check(status /= status_ok, "a file cut off is accepted")
    end do
    call network_from_bytes(sealed([body, 0_i1]), net, status, message)
    call check(status == status_file_format, "bytes left over are accepted")
    ! The kind of the first layer
    body(23) = iachar("x", i1)
    call network_from_bytes(sealed(body), net, status, message)
    call check(status == status_unsupported, "an unknown kind is accepted")
    call check(index(message, "my affine") > 0, "the message does not name the layer")
    call network_from_file("there/is/no/such/file", net, status, message)
    call check(status == status_file_access, "a missing file is accepted")
    call network_from_file(".", net, status, message)
    call check(status /= status_ok, "a directory is accepted")
  end subroutine test_refusals

  !> Files with some bytes changed, removed or added, and a right checksum: an error or a network
  !> that runs, and nothing else.
  subroutine test_mutated_files()
    integer(i1), allocatable :: body(:), mutated(:)
    real(rk), allocatable :: x(:), y(:), linearisation(:), work(:)
    type(network) :: net
    integer :: status, i, q, n_files, n_accepted, place, value, length
    character(len=:), allocatable :: message
    character(len=20) :: argument
    integer, parameter :: odd(9) = [-1, 0, 1, 2, 3, 64, 65536, huge(1), -huge(1)]
    real(rk) :: r(5)

    n_files = 3000
    call get_command_argument(1, argument, length)
    if (length > 0) read (argument, *) n_files
    allocate (body, source=all_layers())
    n_accepted = 0
    do i = 1, n_files
      mutated = body
      call random_number(r)
      do q = 1, 1 + int(3*r(1))
        call random_number(r)
        place = 11 + int(r(2)*(size(mutated) - 20))
        value = odd(1 + int(9*r(3)))
        select case (int(4*r(4)))
        case (0)
          mutated(place) = int(int(256*r(5)) - 128, i1)
        case (1)
          mutated(place:place + 3) = transfer(value, mutated)
        case (2)
          mutated = [mutated(:place - 1), mutated(place + 1 + int(8*r(5)):)]
        case default
          mutated = [mutated(:place), transfer(value, mutated), mutated(place + 1:)]
        end select
      end do
      call network_from_bytes(sealed(mutated), net, status, message)
      if (status /= status_ok) then
        call check(allocated(message), "a refusal comes without a message")
        cycle
      end if
      n_accepted = n_accepted + 1
      if (.not. net%accepts_batch(1) .or. net%linearisation_size(1) > 1000000) cycle
      if (allocated(x)) deallocate (x, y, linearisation, work)
      allocate (x(net%n_inputs), y(net%n_outputs), linearisation(net%linearisation_size(1)), &
        & work(net%work_size(1)))
      x = 0.1_rk
      call net%forward(1, net%parameters, x, y, linearisation, work)
      call net%forward_ad(1, net%parameters, linearisation, y, x, work)
    end do
    ! Changed weights are as good as others
    call check(n_accepted > 0 .and. n_accepted < n_files, "all mutated files are treated alike")
    print "(i0, a, i0, a)", n_accepted, " of ", n_files, " mutated files are networks"
  end subroutine test_mutated_files

end program test_network
