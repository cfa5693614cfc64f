! SPDX-License-Identifier: MIT
!> Reads a network from bytes in memory or from a file. `docs/network-file.md` describes the format
!> byte by byte.
!>
!> Nothing in the bytes is trusted: every count is checked against the bytes that are left before
!> memory is allocated for it, nodes may refer only to nodes before them, and what is left over at
!> the end is an error.
module pybridge_network_reader
  use pybridge_byte_reader, only: byte_reader, crc32
  use pybridge_kinds, only: i1, i4, i8, rk
  use pybridge_layer, only: layer_config, n_values, reject, same_shape, tensor_shape
  use pybridge_network, only: network, network_reference, tensor_reference
  use pybridge_status, only: status_checksum, status_file_access, status_file_format, status_ok, &
    & status_out_of_memory
  implicit none
  private
  public :: network_from_bytes, network_from_file

  !> The first bytes: not text, and spoilt by any conversion of line ends
  integer(i1), parameter :: magic(8) = &
    & int([-119, 80, 66, 78, 13, 10, 26, 10], i1)
  integer(i4), parameter :: version = 1
  !> 01 02 03 04, from the least byte
  integer(i4), parameter :: order_mark = 67305985
  !> Bytes before those that the checksum covers
  integer, parameter :: header_size = 28
  integer, parameter :: highest_rank = 15
  !> A layer's constants are copied at each of its uses: values in all, per byte of the file
  integer, parameter :: highest_growth = 64

contains

  !> Read a network from a file.
  subroutine network_from_file(path, net, status, message)
    !> Name of the file
    character(len=*), intent(in) :: path
    type(network), intent(out) :: net
    integer, intent(out) :: status
    !> What is wrong
    character(len=:), allocatable, intent(out) :: message

    integer(i1), allocatable :: bytes(:)
    integer(i8) :: n
    integer :: unit, code
    character(len=200) :: reason

    reason = ""
    status = status_file_access
    open (newunit=unit, file=path, access="stream", form="unformatted", status="old", &
      & action="read", iostat=code, iomsg=reason)
    if (code /= 0) then
      message = "cannot open '" // path // "': " // trim(reason)
      return
    end if
    n = -1
    inquire (unit=unit, size=n, iostat=code)
    if (code /= 0 .or. n < 0) then
      message = "cannot find the size of '" // path // "'"
      close (unit, iostat=code)
      return
    end if
    allocate (bytes(n), stat=code)
    if (code /= 0) then
      status = status_out_of_memory
      message = "there is no memory for '" // path // "'"
      close (unit, iostat=code)
      return
    end if
    read (unit, iostat=code, iomsg=reason) bytes
    if (code /= 0) then
      message = "cannot read '" // path // "': " // trim(reason)
      close (unit, iostat=code)
      return
    end if
    close (unit, iostat=code)
    call network_from_bytes(bytes, net, status, message)
    if (status /= status_ok) message = path // ": " // message
  end subroutine network_from_file

  !> Read a network from the bytes of a file.
  subroutine network_from_bytes(bytes, net, status, message)
    !> The whole file
    integer(i1), intent(in) :: bytes(:)
    type(network), intent(out) :: net
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    type(byte_reader) :: reader
    type(layer_config), allocatable :: layers(:)
    real(rk), allocatable :: parameters(:)
    character(len=:), allocatable :: metadata
    integer :: precision

    call check_header(bytes, reader, status, message)
    if (status /= status_ok) return
    call reader%take_i4(bytes, precision)
    call reader%take_text(bytes, metadata)
    if (reader%failed .or. (precision /= 4 .and. precision /= 8)) then
      status = status_file_format
      message = "the precision is neither 4 nor 8 bytes, or the description is cut off"
      return
    end if
    call read_layers(bytes, reader, precision, layers, parameters, status, message)
    if (status /= status_ok) return
    call read_nodes(bytes, reader, layers, parameters, net, status, message)
    if (status /= status_ok) return
    net%precision = precision
    call read_references(bytes, reader, net, status, message)
    if (status /= status_ok) return
    if (reader%position /= size(bytes, kind=i8)) then
      status = status_file_format
      message = "there are bytes left over at the end"
    end if
  end subroutine network_from_bytes

  !> Magic, version, byte order, length and checksum.
  subroutine check_header(bytes, reader, status, message)
    integer(i1), intent(in) :: bytes(:)
    type(byte_reader), intent(inout) :: reader
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    integer(i4) :: number, mark, checksum
    integer(i8) :: length
    character(len=12) :: digits

    status = status_file_format
    if (size(bytes, kind=i8) < header_size) then
      message = "this is too short for a network file"
      return
    else if (any(bytes(1:8) /= magic)) then
      message = "this is no network file, or was transferred as text"
      return
    end if
    reader%position = 8
    call reader%take_i4(bytes, number)
    call reader%take_i4(bytes, mark)
    call reader%take_i8(bytes, length)
    call reader%take_i4(bytes, checksum)
    if (mark /= order_mark) then
      message = "the byte order is wrong"
    else if (number /= version) then
      write (digits, "(i0)") number
      message = "this version reads network files of version 1, not " // trim(digits)
    else if (length /= size(bytes, kind=i8)) then
      message = "the file is cut off, or longer than it says"
    else if (checksum /= crc32(bytes(header_size + 1:))) then
      status = status_checksum
      message = "the checksum does not match: the file is damaged"
    else
      status = status_ok
    end if
  end subroutine check_header

  !> The table of layers, and the parameter vector.
  subroutine read_layers(bytes, reader, precision, layers, parameters, status, message)
    integer(i1), intent(in) :: bytes(:)
    type(byte_reader), intent(inout) :: reader
    integer, intent(in) :: precision
    type(layer_config), allocatable, intent(out) :: layers(:)
    real(rk), allocatable, intent(out) :: parameters(:)
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    integer :: i, n_layers, n_parameters, n

    status = status_file_format
    call reader%take_count(bytes, precision, n_parameters)
    call reader%take_count(bytes, 28, n_layers)
    if (reader%failed) then
      message = "the number of parameters or layers is larger than the file"
      return
    end if
    allocate (parameters(n_parameters), layers(n_layers), stat=status)
    if (status /= 0) then
      status = status_out_of_memory
      message = "there is no memory for the parameters"
      return
    end if
    parameters = 0.0_rk
    n = 0
    do i = 1, n_layers
      layers(i)%parameter_offset = n
      call read_layer(bytes, reader, precision, parameters, layers(i), status, message)
      if (status /= status_ok) return
      n = n + layers(i)%n_parameters
    end do
    if (n /= n_parameters) then
      status = status_file_format
      message = "the layers' weights are fewer than the parameters"
    end if
  end subroutine read_layers

  subroutine read_layer(bytes, reader, precision, parameters, config, status, message)
    integer(i1), intent(in) :: bytes(:)
    type(byte_reader), intent(inout) :: reader
    integer, intent(in) :: precision
    real(rk), intent(inout) :: parameters(:)
    type(layer_config), intent(inout) :: config
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    integer :: i, n, first

    status = status_ok
    call reader%take_text(bytes, config%kind)
    call reader%take_text(bytes, config%name)
    call reader%take_text(bytes, config%class_name)
    call reader%take_count(bytes, 4, n)
    call reader%take_integers(bytes, n, config%integers)
    call reader%take_count(bytes, 4, n)
    allocate (config%texts(n))
    do i = 1, n
      call reader%take_text(bytes, config%texts(i)%text)
    end do
    call reader%take_count(bytes, 4, n)
    allocate (config%constants(n))
    do i = 1, n
      call reader%take_count(bytes, 8, first)
      allocate (config%constants(i)%values(first))
      call reader%take_reals(bytes, 8, config%constants(i)%values)
    end do
    call reader%take_count(bytes, 8, n)
    allocate (config%weights(n))
    do i = 1, n
      associate (weight => config%weights(i))
        call reader%take_text(bytes, weight%name)
        call take_dims(bytes, reader, weight%dims)
        weight%n = n_values(tensor_shape(weight%dims))
        first = config%parameter_offset + config%n_parameters
        if (reader%failed .or. weight%n < 0 .or. weight%n > size(parameters) - first) then
          call reject(config, "its weights are cut off, or do not fit the parameters", status, &
            & message)
          return
        end if
        call reader%take_reals(bytes, precision, parameters(first + 1:first + weight%n))
        config%n_parameters = config%n_parameters + weight%n
      end associate
    end do
    if (reader%failed) call reject(config, "the file ends within it", status, message)
  end subroutine read_layer

  !> A shape: the rank, and the dimensions.
  subroutine take_dims(bytes, reader, dims)
    integer(i1), intent(in) :: bytes(:)
    type(byte_reader), intent(inout) :: reader
    integer, allocatable, intent(out) :: dims(:)

    integer :: rank

    call reader%take_count(bytes, 4, rank)
    if (rank > highest_rank) then
      reader%failed = .true.
      rank = 0
    end if
    call reader%take_integers(bytes, rank, dims)
  end subroutine take_dims

  !> Tensor references: a count, then node and output of each.
  subroutine take_tensors(bytes, reader, tensors)
    integer(i1), intent(in) :: bytes(:)
    type(byte_reader), intent(inout) :: reader
    type(tensor_reference), allocatable, intent(out) :: tensors(:)

    integer :: i, n

    call reader%take_count(bytes, 8, n)
    allocate (tensors(n))
    do i = 1, n
      call reader%take_i4(bytes, tensors(i)%node)
      call reader%take_i4(bytes, tensors(i)%output)
    end do
  end subroutine take_tensors

  !> The graph.
  subroutine read_nodes(bytes, reader, layers, parameters, net, status, message)
    integer(i1), intent(in) :: bytes(:)
    type(byte_reader), intent(inout) :: reader
    type(layer_config), intent(in) :: layers(:)
    real(rk), intent(in) :: parameters(:)
    type(network), intent(inout) :: net
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    type(tensor_reference), allocatable :: tensors(:)
    integer :: i, n
    integer(i8) :: growth

    status = status_file_format
    call reader%take_count(bytes, 12, n)
    if (reader%failed) then
      message = "the number of nodes is larger than the file"
      return
    end if
    call net%start(n, parameters, status)
    if (status /= status_ok) then
      message = "there is no memory for the graph"
      return
    end if
    growth = 0
    do i = 1, n
      call read_node(bytes, reader, layers, net, growth, status, message)
      if (status /= status_ok) return
    end do
    status = status_file_format
    call take_tensors(bytes, reader, tensors)
    if (reader%failed) then
      message = "the file ends within the outputs"
      return
    end if
    call net%set_outputs(tensors, status, message)
  end subroutine read_nodes

  subroutine read_node(bytes, reader, layers, net, growth, status, message)
    integer(i1), intent(in) :: bytes(:)
    type(byte_reader), intent(inout) :: reader
    type(layer_config), intent(in) :: layers(:)
    type(network), intent(inout) :: net
    !> Constants and weights counted at each use of a layer
    integer(i8), intent(inout) :: growth
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    type(tensor_reference), allocatable :: sources(:)
    type(tensor_shape) :: shape
    character(len=:), allocatable :: name
    integer :: i, n, number

    status = status_file_format
    message = "the file ends within the graph"
    call reader%take_i4(bytes, number)
    if (reader%failed) return
    if (number == 0) then
      call reader%take_text(bytes, name)
      call take_dims(bytes, reader, shape%dims)
      if (reader%failed) return
      call net%add_input(name, shape, status, message)
      return
    end if
    if (number < 1 .or. number > size(layers)) then
      message = "a node refers to a layer that is not there"
      return
    end if
    call take_tensors(bytes, reader, sources)
    if (reader%failed) return
    if (size(sources) < 1) then
      call reject(layers(number), "it has no input", status, message)
      return
    end if
    growth = growth + layers(number)%n_parameters
    do i = 1, size(layers(number)%constants)
      growth = growth + size(layers(number)%constants(i)%values)
    end do
    if (growth/highest_growth > size(bytes, kind=i8)) then
      call reject(layers(number), "it is used too often", status, message)
      return
    end if
    call net%add_layer(layers(number), sources, status, message)
    if (status /= status_ok) return
    ! What the writer says of the outputs must be what this library makes of the layer
    call reader%take_count(bytes, 4, n)
    if (reader%failed .or. n /= size(net%nodes(net%n_nodes)%shapes)) then
      call reject(layers(number), "its number of outputs is wrong", status, message)
      return
    end if
    do i = 1, n
      call take_dims(bytes, reader, shape%dims)
      if (reader%failed) then
        call reject(layers(number), "the file ends within it", status, message)
        return
      end if
      if (.not. same_shape(shape, net%nodes(net%n_nodes)%shapes(i))) then
        call reject(layers(number), "its output has another shape than the file says", status, &
          & message)
        return
      end if
    end do
  end subroutine read_node

  !> Results of the original network.
  subroutine read_references(bytes, reader, net, status, message)
    integer(i1), intent(in) :: bytes(:)
    type(byte_reader), intent(inout) :: reader
    type(network), intent(inout) :: net
    integer, intent(out) :: status
    character(len=:), allocatable, intent(out) :: message

    integer :: i, n, n_p

    status = status_file_format
    message = "the file ends within the reference results"
    call reader%take_count(bytes, 4, n)
    if (reader%failed) return
    deallocate (net%references)
    allocate (net%references(n))
    do i = 1, n
      call reader%take_i4(bytes, n_p)
      if (reader%failed) return
      if (n_p /= 0 .and. n_p /= net%n_parameters) then
        message = "a reference result does not fit the parameters"
        return
      end if
      if (.not. reader%fits(bytes, &
        & 3*int(net%n_inputs, i8) + 3*int(net%n_outputs, i8) + 2*int(n_p, i8), 8)) return
      call read_reference(bytes, reader, net%n_inputs, net%n_outputs, n_p, net%references(i))
    end do
    if (reader%failed) return
    status = status_ok
  end subroutine read_references

  subroutine read_reference(bytes, reader, n_x, n_y, n_p, reference)
    integer(i1), intent(in) :: bytes(:)
    type(byte_reader), intent(inout) :: reader
    integer, intent(in) :: n_x
    integer, intent(in) :: n_y
    integer, intent(in) :: n_p
    type(network_reference), intent(out) :: reference

    allocate (reference%x(n_x), reference%dx(n_x), reference%dp(n_p), reference%y_ad(n_y), &
      & reference%y(n_y), reference%dy(n_y), reference%x_ad(n_x), reference%p_ad(n_p))
    call reader%take_reals(bytes, 8, reference%x)
    call reader%take_reals(bytes, 8, reference%dx)
    call reader%take_reals(bytes, 8, reference%dp)
    call reader%take_reals(bytes, 8, reference%y_ad)
    call reader%take_reals(bytes, 8, reference%y)
    call reader%take_reals(bytes, 8, reference%dy)
    call reader%take_reals(bytes, 8, reference%x_ad)
    call reader%take_reals(bytes, 8, reference%p_ad)
  end subroutine read_reference

end module pybridge_network_reader
