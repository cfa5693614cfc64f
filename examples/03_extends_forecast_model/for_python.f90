! SPDX-License-Identifier: MIT
!> What Python needs of a model: one procedure that returns its handle.
!>
!>     gfortran -O2 -shared -fPIC shallow_water.f90 for_python.f90 \
!>       $(pybridge-config --fflags --libs) -o shallow_water.so
module shallow_water_for_python
  use, intrinsic :: iso_c_binding, only: c_ptr
  use pybridge, only: new_model_handle, rk
  use shallow_water, only: new_shallow_water_model
  implicit none
  private
  public :: new_model

contains

  function new_model() result(handle) bind(c, name="new_model")
    type(c_ptr) :: handle

    handle = new_model_handle(new_shallow_water_model(m=32, spacing=0.5_rk, dt=0.05_rk, &
      & gravity=1.0_rk, friction=0.02_rk))
  end function new_model

end module shallow_water_for_python
