! SPDX-License-Identifier: MIT
!> Times forward, tangent linear and adjoint of two networks with random weights, on one thread:
!> the 40-64-64-40 network (tanh, tanh, linear), and the periodic five-point stencil network on a
!> ring of 36 points. Prints the minimum and the median over repetitions, in microseconds a call.
program network_speed
  use pybridge_kinds, only: i8, rk
  use pybridge_layer, only: layer_config, real_array, tensor_shape
  use pybridge_network, only: network, tensor_reference
  implicit none

  type(network) :: net
  integer, parameter :: batches(2) = [1, 256]
  integer :: i

  call make_dense(net)
  do i = 1, size(batches)
    call measure("40-64-64-40", net, batches(i))
  end do
  call make_stencil(net)
  do i = 1, size(batches)
    call measure("stencil, 36 points", net, batches(i))
  end do

contains

  subroutine make_dense(made)
    type(network), intent(out) :: made

    integer, parameter :: widths(4) = [40, 64, 64, 40]
    character(len=6), parameter :: activations(3) = ["tanh  ", "tanh  ", "linear"]
    type(layer_config) :: config
    real(rk), allocatable :: p(:)
    integer :: k, status
    character(len=:), allocatable :: message

    allocate (p(sum(widths(:3)*widths(2:) + widths(2:))))
    call random_number(p)
    p = 0.4_rk*(p - 0.5_rk)
    call made%start(4, p, status)
    call made%add_input("x", tensor_shape([40]), status, message)
    config%n_parameters = 0
    config%parameter_offset = 0
    do k = 1, 3
      config%parameter_offset = config%parameter_offset + config%n_parameters
      config%n_parameters = widths(k)*widths(k + 1) + widths(k + 1)
      call set(config, "dense", [integer ::], [activations(k)])
      config%constants = [real_array([real(rk) ::])]
      allocate (config%weights(2))
      config%weights(1)%dims = widths(k:k + 1)
      config%weights(2)%dims = widths(k + 1:k + 1)
      call made%add_layer(config, [tensor_reference(k)], status, message)
      if (status /= 0) error stop "cannot build the dense network"
    end do
    call made%set_outputs([tensor_reference(4)], status, message)
  end subroutine make_dense

  subroutine make_stencil(made)
    type(network), intent(out) :: made

    type(layer_config) :: config
    real(rk) :: p(113)
    integer :: status
    character(len=:), allocatable :: message

    call random_number(p)
    p = p - 0.5_rk
    call made%start(5, p, status)
    call made%add_input("x", tensor_shape([36, 1]), status, message)
    call set(config, "affine", [0], [character(len=6) ::])
    config%constants = [real_array([-2.5_rk/3.6_rk]), real_array([1.0_rk/3.6_rk])]
    call made%add_layer(config, [tensor_reference(1)], status, message)
    call set(config, "padding1d", [1, 2, 2], [character(len=6) ::])
    call made%add_layer(config, [tensor_reference(2)], status, message)
    call set(config, "conv1d", [1, 1, 1], ["valid ", "tanh  "])
    config%constants = [real_array([real(rk) ::])]
    config%n_parameters = 96
    allocate (config%weights(2))
    config%weights(1)%dims = [5, 1, 16]
    config%weights(2)%dims = [16]
    call made%add_layer(config, [tensor_reference(3)], status, message)
    config%parameter_offset = 96
    config%n_parameters = 17
    call set(config, "conv1d", [1, 1, 1], ["valid ", "linear"])
    config%constants = [real_array([real(rk) ::])]
    allocate (config%weights(2))
    config%weights(1)%dims = [1, 16, 1]
    config%weights(2)%dims = [1]
    call made%add_layer(config, [tensor_reference(4)], status, message)
    if (status /= 0) error stop "cannot build the stencil network"
    call made%set_outputs([tensor_reference(5)], status, message)
  end subroutine make_stencil

  !> Fill in a layer's settings, and clear its weights and constants.
  subroutine set(config, kind, integers, texts)
    type(layer_config), intent(inout) :: config
    character(len=*), intent(in) :: kind
    integer, intent(in) :: integers(:)
    character(len=*), intent(in) :: texts(:)

    integer :: k

    config%kind = kind
    config%name = kind
    config%class_name = kind
    config%integers = integers
    if (allocated(config%texts)) deallocate (config%texts)
    if (allocated(config%weights)) deallocate (config%weights)
    if (allocated(config%constants)) deallocate (config%constants)
    allocate (config%texts(size(texts)), config%constants(0))
    do k = 1, size(texts)
      config%texts(k)%text = trim(texts(k))
    end do
    if (kind /= "dense" .and. kind /= "conv1d") allocate (config%weights(0))
  end subroutine set

  subroutine measure(name, net, nb)
    character(len=*), intent(in) :: name
    type(network), intent(in) :: net
    integer, intent(in) :: nb

    integer, parameter :: n_repetitions = 301
    real(rk), allocatable :: x(:), dx(:), y(:), dy(:), y_ad(:), x_ad(:), dp(:), p_ad(:)
    real(rk), allocatable :: linearisation(:), work(:)
    real(rk) :: times(n_repetitions, 5), left, right
    integer :: r, q, n_calls
    integer(i8) :: t(6), rate

    allocate (x(net%n_inputs*nb), dx(net%n_inputs*nb), x_ad(net%n_inputs*nb), &
      & y(net%n_outputs*nb), dy(net%n_outputs*nb), y_ad(net%n_outputs*nb), &
      & dp(net%n_parameters), p_ad(net%n_parameters), &
      & linearisation(net%linearisation_size(nb)), work(net%work_size(nb)))
    call random_number(x)
    call random_number(dx)
    call random_number(dp)
    call random_number(y_ad)
    x = 4.0_rk*x - 2.0_rk
    n_calls = max(1, 200/nb)
    do r = 1, n_repetitions
      x_ad = 0.0_rk
      p_ad = 0.0_rk
      call system_clock(t(1), rate)
      do q = 1, n_calls
        call net%forward(nb, net%parameters, x, y, linearisation, work)
      end do
      call system_clock(t(2))
      do q = 1, n_calls
        call net%forward_tl(nb, net%parameters, linearisation, dx, dy, work)
      end do
      call system_clock(t(3))
      do q = 1, n_calls
        call net%forward_ad(nb, net%parameters, linearisation, y_ad, x_ad, work)
      end do
      call system_clock(t(4))
      do q = 1, n_calls
        call net%forward_ad(nb, net%parameters, linearisation, y_ad, x_ad, work, p_ad)
      end do
      call system_clock(t(5))
      do q = 1, n_calls
        call net%forward_tl(nb, net%parameters, linearisation, dx, dy, work, dp)
      end do
      call system_clock(t(6))
      times(r, :) = 1.0e6_rk*real(t(2:) - t(:5), rk)/real(rate, rk)/n_calls
    end do
    x_ad = 0.0_rk
    p_ad = 0.0_rk
    call net%forward_ad(nb, net%parameters, linearisation, y_ad, x_ad, work, p_ad)
    left = dot_product(dy, y_ad)
    right = dot_product(dx, x_ad) + dot_product(dp, p_ad)
    print "(a, ', batch ', i0, ': dot-product identity holds to ', es8.1)", name, nb, &
      & abs(left - right)/abs(left)
    do r = 1, 5
      call sort(times(:, r))
    end do
    print "(a)", "            forward       TL dx       AD dx    AD dx+dp    TL dx+dp"
    print "('minimum', 5f12.3)", times(1, :)
    print "('median ', 5f12.3)", times((n_repetitions + 1)/2, :)
  end subroutine measure

  !> Insertion sort.
  subroutine sort(a)
    real(rk), intent(inout) :: a(:)

    real(rk) :: v
    integer :: i, j

    do i = 2, size(a)
      v = a(i)
      j = i - 1
      do while (j >= 1)
        if (a(j) <= v) exit
        a(j + 1) = a(j)
        j = j - 1
      end do
      a(j + 1) = v
    end do
  end subroutine sort

end program network_speed
