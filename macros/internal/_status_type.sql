{% macro _status_type(name, data_type) %}
  {#- Texts where the contract has them so. -#}
  {%- if config.get('contract').enforced -%}
    {%- for described in model.columns if described | lower == name and model.columns[described].data_type -%}
      {{ return(model.columns[described].data_type) }}
    {%- endfor -%}
  {%- endif -%}
  {{ return(dbt_enrich.host_type(data_type)) }}
{% endmacro %}
