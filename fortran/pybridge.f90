! SPDX-License-Identifier: MIT
!> All of pybridge that a Fortran program uses, in one module:
!>
!>     use pybridge, only: network, network_from_file
!>
!> Each part is documented in the module it comes from.
module pybridge
  ! Kinds and status codes
  use pybridge_kinds, only: rk, sk
  use pybridge_status, only: describe_status, status_blow_up, status_checksum, status_file_access, &
    & status_file_format, status_invalid_argument, status_not_available, status_not_converged, &
    & status_not_positive_definite, status_null_handle, status_observation, status_ok, &
    & status_out_of_memory, status_self_test, status_unsupported, &
    & status_user_procedure, status_wrong_shape
  ! Models: the abstract types, the time scheme, and those that come along
  use pybridge_forecast_model, only: forecast_model
  use pybridge_lorenz63, only: lorenz63_tendency, new_lorenz63_tendency
  use pybridge_lorenz96, only: lorenz96_tendency, new_lorenz96_tendency
  use pybridge_model_api, only: new_model_handle
  use pybridge_recharge_oscillator, only: new_recharge_oscillator_tendency, &
    & recharge_oscillator_tendency
  use pybridge_runge_kutta, only: new_runge_kutta_model, runge_kutta_model
  use pybridge_tendency, only: tendency_term
  use pybridge_trajectory, only: failure, forecast, forecast_ad, forecast_tl, workspace_ad, &
    & workspace_forecast, workspace_size, workspace_tl
  use pybridge_two_scale_lorenz96, only: new_two_scale_lorenz96_tendency, &
    & two_scale_lorenz96_tendency
  use pybridge_user_model, only: new_user_model, user_model, user_step, user_step_ad, user_step_tl
  ! Networks
  use pybridge_network, only: network
  use pybridge_network_reader, only: network_from_bytes, network_from_file
  ! Models with a network's correction
  use pybridge_correction, only: network_correction, new_network_correction
  use pybridge_hybrid_forcing, only: hybrid_forcing_model, new_hybrid_forcing_model
  use pybridge_hybrid_increment, only: hybrid_increment_model, new_hybrid_increment_model
  use pybridge_hybrid_tendency, only: hybrid_tendency, new_hybrid_tendency
  ! 4D-Var
  use pybridge_background, only: background_covariance, diagonal_covariance, full_covariance, &
    & new_diagonal_covariance, new_full_covariance
  use pybridge_fourdvar, only: fourdvar, fourdvar_history, fourdvar_options, fourdvar_workspace, &
    & new_fourdvar
  use pybridge_observation_error, only: diagonal_error, new_diagonal_error, observation_error
  use pybridge_observation_operator, only: new_selection_operator, observation_operator, &
    & selection_operator
  use pybridge_observations, only: new_observation_set, observation_set
  implicit none
  public

  !> Version of the library
  character(len=*), parameter :: pybridge_version = "0.1.0"

end module pybridge
